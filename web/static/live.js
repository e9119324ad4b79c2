// Keeps the live parts of a page up to date: each live update makes the page fetch them anew.
// Says so when updates stop. When this node's pages change as a whole, such as when it becomes
// Primary, the page loads itself anew.
"use strict";
(() => {
  const silence = 15000; // ms; the server sends something at least every 5 s
  const body = document.body;
  const note = document.getElementById("live");
  let last = Date.now();
  let busy = false;
  let again = false;
  let sent = 0; // when a form was sent: its answer is the next page, which nothing may cut off

  function moved(mode) {
    if (mode === body.dataset.mode || Date.now() - sent < 30000) return false;
    if (body.dataset.mode === "waiting") { location.assign("/"); return true; }
    if ("keep" in body.dataset && mode !== "waiting") { body.dataset.mode = mode; return false; } // typed values stay
    if (mode === "waiting") { location.assign("/waiting"); return true; }
    location.assign(location.pathname.startsWith("/actions/") ? "/" : location.pathname);
    return true;
  }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(body.dataset.refresh, { cache: "no-store", credentials: "same-origin", headers: { Accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const mode = fresh.body.dataset.mode;
      if (!mode) { if (answer.redirected && Date.now() - sent > 30000) location.reload(); return; } // logged out, or restarting
      if (moved(mode)) return;
      for (const part of fresh.querySelectorAll("[data-live]")) {
        const old = document.getElementById(part.id);
        if (old && old.outerHTML !== part.outerHTML && !old.contains(document.activeElement)) old.replaceWith(part);
      }
    } catch (e) {
      // The next update tries again; the notice appears when there is none.
    } finally {
      busy = false;
      if (again) { again = false; refresh(); }
    }
  }

  function stale(yes) {
    note.hidden = !yes;
    body.classList.toggle("is-stale", yes);
  }

  function listen() {
    const source = new EventSource("/api/v1/events");
    source.addEventListener("redundancy", () => { last = Date.now(); stale(false); refresh(); });
    source.onerror = () => {
      last = Math.min(last, Date.now() - silence + 3000); // 3 s to come back
      // A browser gives up for good after some errors: begin anew then.
      if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(listen, 2000); }
    };
  }

  document.addEventListener("submit", () => { sent = Date.now(); });
  window.addEventListener("pageshow", () => { sent = 0; });

  const button = document.getElementById("pool-button");
  const panel = document.getElementById("pool-panel");
  function show(yes) { panel.classList.toggle("open", yes); button.setAttribute("aria-expanded", String(yes)); }
  button.addEventListener("click", () => show(!panel.classList.contains("open")));
  document.addEventListener("keydown", e => { if (e.key === "Escape") show(false); });
  document.addEventListener("click", e => { if (!e.target.closest(".pool")) show(false); });

  setInterval(() => { if (Date.now() - last > silence) stale(true); }, 1000);
  listen();
})();
