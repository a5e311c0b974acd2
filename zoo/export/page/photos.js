"use strict";
// Photos that are chosen, dropped, pasted or taken, a card with its answer for each: what the page
// of `zoo serve` and that of `zoo export web` have in common.
const one = (id) => document.getElementById(id);
const TOP = 5;

function made(tag, parent, text = "", kind = "") {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

function told(classes) {
  const some = classes.slice(0, 8).join(", ");
  return `It tells apart ${some}${classes.length > 8 ? ` and ${classes.length - 8} more` : ""}`;
}

function shown(file) {
  const card = document.createElement("li");
  one("photos").prepend(card);
  const picture = made("img", card);
  picture.alt = file.name;
  picture.onerror = () => { picture.hidden = true; };  // not every format is the browser's
  picture.src = URL.createObjectURL(file);
  const label = made("h2", card, "…");
  made("p", card, file.name, "soft name");
  return {file, card, picture, label};
}

// ask(file): gives the title of a photo's answer and rows of a class and its probability.
// more(photo, words, name): adds to the words of a row.
function startPhotos({ask, more = () => {}, atOnce = 4}) {
  const waiting = [];
  let busy = 0;

  async function answered(photo) {
    try {
      const {title, rows} = await ask(photo.file);
      photo.label.textContent = title;
      for (const [name, value] of rows) {
        const line = made("div", photo.card, "", "row"), words = made("div", line);
        made("span", words, name);
        more(photo, words, name);
        made("span", words, `${(100 * value).toFixed(1)} %`);
        const bar = made("progress", line);
        bar.value = value;
        bar.setAttribute("aria-label", name);
      }
    } catch (error) {
      photo.label.textContent = "no answer";
      made("p", photo.card, error.message, "bad name");
    }
    one("said").textContent = `${photo.file.name}: ${photo.label.textContent}`;
  }

  function take(files) {
    waiting.push(...[...files].map(shown));
    while (busy < atOnce && waiting.length) {
      busy += 1;
      answered(waiting.shift()).finally(() => { busy -= 1; take([]); });
    }
  }

  one("files").onchange = (event) => { take(event.target.files); event.target.value = ""; };
  document.ondragover = (event) => { event.preventDefault(); one("drop").classList.add("over"); };
  document.ondragleave = () => one("drop").classList.remove("over");
  document.ondrop = (event) => {
    event.preventDefault();
    one("drop").classList.remove("over");
    take(event.dataTransfer.files);
  };
  document.onpaste = (event) => take(event.clipboardData.files);
  startCamera(take);
}

// A photo by the camera: seen live where the browser lets a page do so, else by the phone's own.
function startCamera(take) {
  const dialog = one("camera"), video = dialog.querySelector("video");
  let taken = 0;
  one("open-camera").onclick = async () => {
    one("wrong").textContent = "";
    if (!navigator.mediaDevices) {  // the page came by http from another machine
      one("snap").click();
      return;
    }
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia(
        {video: {facingMode: "environment", width: {ideal: 1280}}});
      dialog.showModal();
    } catch (error) {
      one("wrong").textContent = `no photo by the camera: ${error.message}`;
    }
  };
  one("snap").onchange = (event) => { take(event.target.files); event.target.value = ""; };
  one("shoot").onclick = () => {
    const canvas = document.createElement("canvas");
    canvas.width = video.videoWidth;
    canvas.height = video.videoHeight;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      taken += 1;
      take([new File([blob], `camera ${taken}.png`, {type: "image/png"})]);
    });
    dialog.close();
  };
  dialog.onclose = () => {
    for (const track of video.srcObject.getTracks()) track.stop();
    video.srcObject = null;
  };
}
