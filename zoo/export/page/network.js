// The network, in a thread of its own: a file in, the probability of each class out.
import * as ort from "./onnxruntime.js";

const MEGAPIXELS = 64;

ort.env.wasm.numThreads = 1;  // more take headers that a plain server does not send
ort.env.wasm.wasmPaths = {wasm: new URL("onnxruntime.wasm", import.meta.url).href};
const session = ort.InferenceSession.create(new URL("model.onnx", import.meta.url).href);
session.then(() => postMessage({ready: true}), (error) => postMessage({error: error.message}));

// 1 x height x width x 3 of uint8: upright, what is transparent on white, profiles left out.
async function pixels(file) {
  const how = {imageOrientation: "from-image", colorSpaceConversion: "none"};
  const image = await createImageBitmap(file, how).catch(() => {
    throw new Error("not a picture in a format that this browser reads");
  });
  const {width, height} = image;
  if (width * height > 1e6 * MEGAPIXELS) throw new Error(`more than ${MEGAPIXELS} megapixels`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  image.close();
  const {data} = context.getImageData(0, 0, width, height), rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from];
    rgb[to++] = data[from + 1];
    rgb[to++] = data[from + 2];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

async function answer({id, file}) {
  try {
    const found = await (await session).run({image: await pixels(file)});
    postMessage({id, values: found.probabilities.data});
  } catch (error) {
    postMessage({id, error: error.message});
  }
}

let last = session.catch(() => {});
onmessage = ({data}) => { last = last.then(() => answer(data)); };  // one after the other
