"use strict";
// The page of `zoo export web`: photos go to the network, which runs in a thread of its own.

async function began() {
  if (location.protocol === "file:") {
    throw new Error("A browser runs no network from a file. In this folder: python -m http.server, " +
      "then open http://localhost:8000");
  }
  const model = await (await fetch("model.json")).json();
  one("model").textContent = document.title = model.title;
  const licence = model.licence ? `; licence of the weights: ${model.licence}` : "";
  one("about").textContent = `${told(model.classes)}${licence}.`;
  one("state").textContent = `Loading the network, ${(model.bytes / 1e6).toFixed(0)} MB …`;

  const network = new Worker("network.js", {type: "module"}), asked = new Map();
  let number = 0;
  network.onmessage = ({data}) => {
    if (data.ready) one("state").textContent = "Ready. Photos stay on this device.";
    else if (data.id === undefined) failed(new Error(data.error));
    else asked.get(data.id)(data);
  };
  network.onerror = (event) => failed(new Error(event.message || "the network cannot be loaded"));

  async function ask(file) {
    const id = number;
    number += 1;
    const answer = new Promise((done) => asked.set(id, done));
    network.postMessage({id, file});
    const {error, values} = await answer;
    asked.delete(id);
    if (error) throw new Error(error);
    const all = model.classes.map((name, place) => [name, values[place]]);
    const rows = [...all].sort((a, b) => b[1] - a[1]).slice(0, TOP);
    if (model.threshold === null) return {title: rows[0][0], rows};
    const reached = all.filter(([, value]) => value >= model.threshold).map(([name]) => name);
    return {title: reached.join(", ") || "none of the labels", rows};
  }

  startPhotos({ask});
}

function failed(error) {
  one("wrong").textContent = error.message;
  one("state").textContent = "";
}

began().catch(failed);
