// Keeps the status page up to date: each live update makes the page fetch itself again. Says so
// when updates stop, and when they come back.
"use strict";
(() => {
  const silence = 15000; // ms; the server sends something at least every 5 s
  const note = document.getElementById("live");
  let last = Date.now();
  let busy = false;
  let again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch("/", { cache: "no-store", credentials: "same-origin" });
      if (answer.redirected) { location.reload(); return; } // logged out
      if (!answer.ok) return;
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const main = fresh.getElementById("main");
      if (main) { document.getElementById("main").replaceWith(main); document.title = fresh.title; }
    } catch (e) {
      // The next update tries again; the notice appears when there is none.
    } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  }

  function listen() {
    const source = new EventSource("/api/v1/events");
    source.addEventListener("redundancy", () => { last = Date.now(); note.hidden = true; refresh(); });
    source.onerror = () => {
      // A browser gives up for good after some errors: begin anew then.
      if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 2000); }
    };
  }

  setInterval(() => { note.hidden = Date.now() - last < silence; }, 1000);
  listen();
})();
