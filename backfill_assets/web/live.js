// Replaces the page's content when the server says that something has changed.
let shown = document.currentScript.dataset.version;
const events = new EventSource(document.currentScript.dataset.events);
const at = (text) => { const place = document.getElementById("at"); if (place) place.textContent = text; };
events.onmessage = async (event) => {
  const now = JSON.parse(event.data);
  if (now.version !== shown) {
    const reply = await fetch(location.href);
    if (!reply.ok) return;
    const text = await reply.text();
    // Without the style sheet, which has another nonce.
    const content = text.slice(text.indexOf("<main>"), text.lastIndexOf("</main>"));
    const page = new DOMParser().parseFromString(content, "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    shown = now.version;
  }
  at(now.at);
};
events.onerror = () => at("(connection lost, retrying)");
