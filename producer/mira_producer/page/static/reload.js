// A file that is being checked: the view shows how far the check is.
const RELOAD_MS = 2000;

setTimeout(() => location.reload(), RELOAD_MS);
