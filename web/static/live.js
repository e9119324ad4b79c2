// Keeps the live parts of a page up to date: each live update makes the page fetch them anew.
// The server sends something each second, so a server that died, hangs or is cut off is noticed
// by its silence: everything then turns grey, with its age, and a new stream is tried again and
// again. When this node's pages change as a whole, such as when it becomes Primary, the page loads
// itself anew.
"use strict";
(() => {
  const silence = 2500; // ms without a word until the page says so; the server speaks each second
  const patience = 1500; // ms that one try to connect gets while there is silence
  const body = document.body;
  const note = document.getElementById("live");
  const noteAge = document.getElementById("live-age");
  const age = document.getElementById("age");
  let last = Date.now(); // when the server was heard
  let drawn = Date.now(); // when what the page shows was fetched
  let source = null;
  let opened = 0; // when the present try to connect began
  let busy = false;
  let again = false;
  let other = body.dataset.mode; // the mode that the server said last, and since when
  let otherSince = 0;
  let follow = 0; // until when something that was started here is followed closely
  let sent = 0; // when a form was sent: its answer is the next page, which nothing may cut off

  // moved loads the page anew once the node has other pages for good: a Primary that is just handing
  // over has few pages for a moment, and whoever left the page then would find the virtual IP gone.
  function moved(mode) {
    if (mode !== other) { other = mode; otherSince = Date.now(); }
    if (mode === body.dataset.mode || Date.now() - sent < 30000 || Date.now() - otherSince < 700) return false;
    if (body.dataset.mode === "waiting") { location.assign("/"); return true; }
    if ("keep" in body.dataset && mode !== "waiting") { body.dataset.mode = mode; return false; } // typed values stay
    if (mode === "waiting") { location.assign("/waiting"); return true; }
    location.assign(location.pathname.startsWith("/actions/") ? "/" : location.pathname + location.search);
    return true;
  }

  // become makes old like fresh and touches only what differs, so that focus, selection, typed
  // values and scrolling stay.
  function become(old, fresh) {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeName !== fresh.nodeName || old.id !== fresh.id) { old.replaceWith(fresh); return; }
    if (old.nodeType !== Node.ELEMENT_NODE) { old.nodeValue = fresh.nodeValue; return; }
    for (const a of [...old.attributes]) if (!fresh.hasAttribute(a.name) && a.name !== "open") old.removeAttribute(a.name);
    for (const a of fresh.attributes) if (old.getAttribute(a.name) !== a.value) old.setAttribute(a.name, a.value);
    const now = [...old.childNodes], then = [...fresh.childNodes];
    then.forEach((node, i) => { if (i < now.length) become(now[i], node); else old.append(node); });
    now.slice(then.length).forEach(node => node.remove());
  }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    const limit = new AbortController(); // an answer that never comes must not stop all others
    const timer = setTimeout(() => limit.abort(), 2000);
    try {
      const asked = Date.now();
      const answer = await fetch(body.dataset.refresh, { cache: "no-store", credentials: "same-origin", headers: { Accept: "text/html" }, signal: limit.signal });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const mode = fresh.body.dataset.mode;
      if (!mode) { if (answer.redirected && Date.now() - sent > 30000) location.reload(); return; } // logged out, or restarting
      if (moved(mode)) return;
      if (mode !== body.dataset.mode && mode === other) setTimeout(refresh, 800);
      for (const part of fresh.querySelectorAll("[data-live]")) {
        const old = document.getElementById(part.id);
        if (old) become(old, part);
      }
      drawn = asked;
    } catch (e) {
      // The next update tries again; the notice appears when there is none.
    } finally {
      clearTimeout(timer);
      busy = false;
      if (again) { again = false; refresh(); }
    }
  }

  // heard takes a sign of life.
  function heard() { last = Date.now(); tell(); }

  // tell shows whether the page is live, and how old what it shows is.
  function tell() {
    const now = Date.now();
    const stale = now - last > silence || now - drawn > 5000 + silence;
    const old = Math.max(0, Math.round((now - drawn) / 1000));
    if (note.hidden === stale) note.hidden = !stale;
    body.classList.toggle("is-stale", stale);
    if (stale) noteAge.textContent = `${old} s`;
    if (age) age.textContent = stale ? `not live: ${old} s old` : `live, ${old} s old`;
  }

  // listen begins a new stream in place of any other.
  function listen() {
    if (source) source.close();
    opened = Date.now();
    source = new EventSource("/api/v1/events");
    source.addEventListener("redundancy", () => { heard(); refresh(); });
    source.addEventListener("alive", () => { heard(); if ("each" in body.dataset) refresh(); });
    source.onopen = () => { opened = 0; };
    source.onerror = () => { last = Math.min(last, Date.now() - silence + 1000); opened = opened || Date.now(); }; // 1 s to come back
  }

  // watch ends what hangs: a browser alone would wait for minutes on a host that is gone, and gives
  // up for good after some errors.
  function watch() {
    tell();
    if (source.readyState === EventSource.CLOSED || Date.now() - last > silence && Date.now() - opened > patience) listen();
  }

  // A form with data-stay does not leave the page: what it starts ends connections on the virtual IP,
  // and a page asked for at that moment would never come.
  document.addEventListener("submit", async e => {
    const form = e.target;
    if (!("stay" in form.dataset)) { sent = Date.now(); return; }
    e.preventDefault();
    for (const b of form.querySelectorAll("button")) b.disabled = true;
    follow = Date.now() + 30000;
    try {
      const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin", redirect: "manual" });
      if (answer.status >= 400) form.submit(); // to see why
    } catch (e) {
      // It may have been begun all the same: what is shown next tells.
    }
    refresh();
  });
  window.addEventListener("pageshow", () => { sent = 0; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden) watch(); });

  const button = document.getElementById("pool-button");
  const panel = document.getElementById("pool-panel");
  function show(yes) { panel.classList.toggle("open", yes); button.setAttribute("aria-expanded", String(yes)); }
  button.addEventListener("click", () => { panel.classList.remove("shut"); show(!panel.classList.contains("open")); });
  document.addEventListener("keydown", e => { if (e.key === "Escape") { show(false); panel.classList.add("shut"); } }); // hides what hovering shows, too
  button.parentElement.addEventListener("pointerenter", () => panel.classList.remove("shut"));
  button.addEventListener("focus", () => panel.classList.remove("shut"));
  document.addEventListener("click", e => { if (!e.target.closest(".pool")) show(false); });

  setInterval(watch, 500);
  // While something is under way, what it does is shown as it happens.
  setInterval(() => { if (document.querySelector("[data-running]") || Date.now() < follow) refresh(); }, 300);
  listen();
})();
