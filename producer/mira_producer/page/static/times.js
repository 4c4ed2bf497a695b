// Times: in the browser's time zone, as a countdown, or as the time since then. The server's clock is the reference.
let aheadMs = Date.now() - Number(document.documentElement.dataset.now);

export function setServerTime(nowMs) {
  aheadMs = Date.now() - nowMs;
}

// The same units as in mira_producer/text.py.
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  const [large, small, units] =
    whole < 3600 ? [Math.floor(whole / 60), whole % 60, ["min", "s"]]
    : minutes < 1440 ? [Math.floor(minutes / 60), minutes % 60, ["h", "min"]]
    : [Math.floor(Math.round(minutes / 60) / 24), Math.round(minutes / 60) % 24, ["d", "h"]];
  return `${large} ${units[0]}${small ? ` ${small} ${units[1]}` : ""}`;
}

const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function show(element, nowMs) {
  const at = Date.parse(element.dateTime);
  const text =
    element.className === "countdown" ? (at > nowMs ? `in ${duration(Math.ceil((at - nowMs) / 1000))}` : "now")
    : element.className === "ago" ? `${duration((nowMs - at) / 1000)} ago`
    : local.format(at);
  if (element.textContent !== text) element.textContent = text;
  if (!element.title) element.title = local.format(at);
}

export function updateTimes(root = document) {
  const nowMs = Date.now() - aheadMs;
  for (const element of root.querySelectorAll("time")) show(element, nowMs);
}

export function showTimes() {
  updateTimes();
  setInterval(() => { if (!document.hidden) updateTimes(); }, 1000);
}
