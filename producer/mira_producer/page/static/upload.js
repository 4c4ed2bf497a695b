// A file that is dropped or chosen is uploaded as a stream. XMLHttpRequest, because fetch reports no progress.
import { csrf } from "./forms.js";

const zone = document.getElementById("drop");
const units = new Intl.NumberFormat(undefined, { style: "unit", unit: "megabyte", maximumFractionDigits: 1 });

function part(id) {
  return document.getElementById(id);
}

function fail(message) {
  part("upload").hidden = true;
  part("upload-error").textContent = message;
  part("file").disabled = false;
  part("file").value = "";
}

function messageOf(request) {
  try {
    return JSON.parse(request.responseText).error.message;
  } catch {
    return request.status ? `The gateway responded with the status ${request.status}.` : "The connection was lost.";
  }
}

function upload(file) {
  const body = new FormData();
  body.append("purpose", "batch");
  body.append("file", file);
  const request = new XMLHttpRequest();
  request.open("POST", zone.action);
  request.setRequestHeader("accept", "application/json");
  request.setRequestHeader("x-csrf-token", csrf());
  request.upload.onprogress = ({ loaded, total }) => {
    part("upload-progress").value = total ? loaded / total : 0;
    part("upload-text").textContent = `${units.format(loaded / 1e6)} of ${units.format(total / 1e6)}`;
  };
  request.upload.onload = () => { part("upload-text").textContent = "The file is being stored."; };
  request.onload = () => {
    if (request.status < 300) location.assign(JSON.parse(request.responseText).location);
    else fail(messageOf(request));
  };
  request.onerror = () => fail(messageOf(request));
  request.onabort = () => fail("The upload was stopped.");
  part("upload-stop").onclick = () => request.abort();
  part("upload-error").textContent = "";
  part("upload").hidden = false;
  part("file").disabled = true;
  request.send(body);
}

if (zone) {
  part("file").addEventListener("change", ({ target }) => { if (target.files.length) upload(target.files[0]); });
  for (const name of ["dragenter", "dragover"]) {
    zone.addEventListener(name, (event) => {
      event.preventDefault();
      zone.classList.add("is-over");
    });
  }
  zone.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!zone.contains(relatedTarget)) zone.classList.remove("is-over");
  });
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("is-over");
    const files = event.dataTransfer.files;
    if (files.length > 1) fail("Drop one file at a time.");
    else if (files.length && !part("file").disabled) upload(files[0]);
  });
  // A file that misses the zone must not replace the page.
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
}
