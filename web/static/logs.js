// Lets the Logs page follow: rows come as they happen, in their place by time. Paused, they are
// counted and shown on going on. Older pages are put below the rows that are there.
"use strict";
(() => {
  const box = document.getElementById("log");
  const rows = document.getElementById("log-rows");
  const state = document.getElementById("log-state");
  const pause = document.getElementById("log-pause");
  const most = 2000; // rows in the page
  const silence = 15000; // ms; the server sends something at least every 5 s
  let held = []; // while paused
  let last = Date.now();

  function parse(html) {
    const table = document.createElement("table");
    table.innerHTML = "<tbody>" + html + "</tbody>"; // rendered and escaped by the server
    return table.querySelector("tr");
  }

  function place(e) {
    if (document.getElementById("e-" + e.id)) return;
    const row = parse(e.row);
    if (!row) return;
    const none = document.getElementById("log-none");
    if (none) none.remove();
    let next = rows.firstElementChild;
    while (next && (Number(next.dataset.at) > e.at || Number(next.dataset.at) === e.at && next.id > row.id)) next = next.nextElementSibling;
    if (!next && document.getElementById("log-older")) return; // belongs to an older page
    rows.insertBefore(row, next);
    row.classList.add("fresh");
    while (rows.childElementCount > most) rows.lastElementChild.remove();
  }

  function tell() {
    if (!pause) return;
    if (pause.getAttribute("aria-pressed") === "true") state.textContent = `Paused: ${held.length} new`;
    else state.textContent = Date.now() - last > silence ? "Not followed: the connection is lost" : "Following: new events appear by themselves";
  }

  function take(e) {
    last = Date.now();
    if (pause.getAttribute("aria-pressed") !== "true") place(e);
    else if (!document.getElementById("e-" + e.id) && !held.some(h => h.id === e.id) && held.length < most) held.push(e);
    tell();
  }

  function follow() {
    const source = new EventSource(box.dataset.stream);
    source.addEventListener("log", m => take(JSON.parse(m.data)));
    source.addEventListener("alive", () => { last = Date.now(); tell(); });
    source.onopen = () => { last = Date.now(); tell(); };
    source.onerror = () => { if (source.readyState === EventSource.CLOSED) { source.close(); setTimeout(follow, 2000); } };
  }

  if (pause && !("old" in box.dataset)) {
    pause.hidden = false;
    pause.addEventListener("click", () => {
      const now = pause.getAttribute("aria-pressed") !== "true";
      pause.setAttribute("aria-pressed", String(now));
      pause.textContent = now ? "Go on" : "Pause";
      if (!now) { held.forEach(place); held = []; }
      tell();
    });
    setInterval(tell, 1000);
    follow();
  }

  box.addEventListener("click", async click => {
    const link = click.target.closest("#log-older a");
    if (!link || click.ctrlKey || click.metaKey || click.shiftKey) return;
    click.preventDefault();
    link.textContent = "Loading …";
    try {
      const answer = await fetch(link.href, { cache: "no-store", credentials: "same-origin", headers: { Accept: "text/html" } });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const more = fresh.getElementById("log-rows");
      if (!answer.ok || !more) { location.assign(link.href); return; }
      for (const row of [...more.children]) if (!document.getElementById(row.id)) rows.append(row);
      const older = fresh.getElementById("log-older");
      if (older) document.getElementById("log-older").replaceWith(older);
      else document.getElementById("log-older").remove();
    } catch (e) {
      link.textContent = "Load older";
    }
  });
})();
