// The user's theme. This script runs before the page is drawn, so that no other theme flashes up.
{
  const stored = localStorage.getItem("mira-theme");
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
}
