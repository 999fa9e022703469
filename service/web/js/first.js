// Before the first paint: the theme that this browser has chosen, if any.
// A classic script on purpose, because modules run after the page has been shown.
try {
  const theme = localStorage.getItem("chat.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is off: the system's theme stays.
}
