// Live updates: each event has the HTML of the elements that have changed. A hidden tab has no stream.
import { fillTokens } from "./forms.js";
import { setServerTime, updateTimes } from "./times.js";

const RECONNECT_MS = 5000;
const DISCONNECTED = "Live updates are interrupted. The page connects again automatically.";

// A user who types in an element keeps it. It is updated with the next change.
function isInUse(element) {
  const active = document.activeElement;
  return element.contains(active) && active.matches("input:not([type=hidden]), select, textarea");
}

// The same link or button before and after an update. Its place is not the same if rows were added.
function identity(element) {
  const names = ["id", "href", "aria-label"].map((name) => element.getAttribute(name));
  return [...names, element.form?.getAttribute("action"), element.textContent.trim()].join("|");
}

// Return a function that focuses the element which has replaced the focused one.
function focusKeeper(element) {
  const active = document.activeElement;
  if (!element.contains(active) || active === element) return () => {};
  const alike = () => [...element.querySelectorAll(active.tagName)];
  const [wanted, index] = [identity(active), alike().indexOf(active)];
  return () => {
    const now = alike();
    const found = now.find((each) => identity(each) === wanted) ?? now[index];
    found?.focus({ preventScroll: true });
  };
}

export function replace(id, html) {
  const element = document.getElementById(id);
  if (!element || isInUse(element)) return;
  const open = new Set([...element.querySelectorAll("details[open][id]")].map((each) => each.id));
  const focus = focusKeeper(element);
  element.innerHTML = html;
  for (const each of open) document.getElementById(each)?.setAttribute("open", "");
  fillTokens(element);
  updateTimes(element);
  focus();
  element.dispatchEvent(new CustomEvent("mira:replaced", { bubbles: true }));
}

function problem(text) {
  const element = document.getElementById("live-problem");
  if (element && element.textContent !== text) element.textContent = text;
}

export function followLive() {
  const url = document.documentElement.dataset.live;
  if (!url) return;
  let source = null;
  let timer = 0;

  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };

  const open = () => {
    close();
    source = new EventSource(url);
    source.onmessage = (event) => {
      const { now_ms, html } = JSON.parse(event.data);
      setServerTime(now_ms);
      for (const [id, text] of Object.entries(html)) replace(id, text);
      if (!("live-problem" in html)) problem("");
    };
    source.onerror = async () => {
      problem(DISCONNECTED);
      if (source?.readyState !== EventSource.CLOSED) return;
      // The gateway has rejected the stream. If the session has ended, the view redirects to the sign-in form.
      const view = await fetch(location.href, { method: "GET", redirect: "manual" }).catch(() => null);
      if (view?.type === "opaqueredirect") location.reload();
      else timer = setTimeout(open, RECONNECT_MS);
    };
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  // A page in the browser's history must not hold a connection.
  addEventListener("pagehide", close);
  addEventListener("pageshow", (event) => { if (event.persisted && !document.hidden) open(); });
  if (!document.hidden) open();
}
