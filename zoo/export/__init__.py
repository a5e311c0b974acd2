"""The verb export: one file that gives the same answers, or no file.

records.py         what is asked for, and what an exported file is with its proof
onnx.py            a classifier's run to a file that computes in fp32
int8.py            the same in int8, measured beside fp32
reconstruction.py  an autoencoder's run
proof.py           a file's answers on real photos beside those of the run
written.py         what a run wrote down of its photos, which is one of those answers
contract.py        how a photo becomes what a file takes, for programs without zoo
graph.py           the Preprocess as a graph before the network
"""
