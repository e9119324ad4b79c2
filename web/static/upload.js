// Sends a saved file to this Manager as it is, and says what became of it.
"use strict";
(() => {
  const form = document.getElementById("upload");
  const file = document.getElementById("upload-file");
  const said = document.getElementById("upload-said");
  form.hidden = false;
  form.addEventListener("submit", async e => {
    e.preventDefault();
    if (!file.files.length) { said.textContent = "Choose a file first."; return; }
    said.textContent = "Sending…";
    try {
      const answer = await fetch("/api/v1/database/upload?name=" + encodeURIComponent(file.files[0].name), {
        method: "POST", credentials: "same-origin", body: file.files[0],
        headers: { "Content-Type": "application/octet-stream", "X-Form-Token": form.dataset.token },
      });
      const told = await answer.json();
      if (answer.ok) { location.reload(); return; }
      said.textContent = told.error.message;
    } catch (err) {
      said.textContent = "The file could not be sent: " + err.message;
    }
  });
})();
