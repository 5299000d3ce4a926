// A key held down must not label one row after the other, nor a double click two of them; keys can
// be turned off for those whose tools (speech input, switches) send letters of their own.
const box = document.getElementById("keys");
if (box) {
  const read = () => { try { return localStorage.getItem("keys"); } catch { return null; } };
  box.checked = read() !== "off";
  box.parentElement.hidden = false;
  box.addEventListener("change", () => {
    try { localStorage.setItem("keys", box.checked ? "on" : "off"); } catch {}
  });
  document.addEventListener("keydown", (event) => {
    if (!box.checked || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input:not([type=checkbox]), select")) return;
    const button = document.querySelector(`[data-key="${CSS.escape(event.key.toLowerCase())}"]`);
    if (button) { event.preventDefault(); button.click(); }
  });
  document.addEventListener("click", (event) => {
    if (event.detail > 1 && event.target.closest("button")) event.preventDefault();
  });
  let sent = false;
  addEventListener("pageshow", () => { sent = false; });
  document.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
}
