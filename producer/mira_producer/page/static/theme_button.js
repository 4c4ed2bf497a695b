// The button that switches between the light and the dark theme.
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

export function showTheme() {
  const button = document.querySelector("#theme");
  if (!button) return;
  const label = () => { button.textContent = isDark() ? "Light theme" : "Dark theme"; };
  button.hidden = false;
  label();
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("mira-theme", theme);
    label();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
}
