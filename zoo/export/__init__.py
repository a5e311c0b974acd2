"""The verb export: one file that gives the same answers, or no file.

formats.py         the formats, as a table: commands, help, docs and tests read it
records.py         what is asked for, and what an exported file is with its proof
run_file.py        which writer a run takes, where the file goes, what run.json notes of it
every.py           a run in each format
onnx.py            a classifier's run to a file that computes in fp32
int8.py            the same in int8, measured beside fp32
reconstruction.py  an autoencoder's run
convert.py         other formats by way of the ONNX file: fp16.py, fixed.py, openvino.py,
                   torch_export.py, hf.py
basis.py           what the run says of photos, which a file is compared with
written.py         that, as the run wrote it down
proof.py           a file's answers on real photos beside those of the run
distance.py        how far a picture is from the training photos, as one more output
contract.py        how a photo becomes what a file takes, for programs without zoo
graph.py           the Preprocess as a graph before the network
web.py             a page that answers in the browser, with web_runtime.py's files
"""
