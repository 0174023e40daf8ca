// Figures in the report: caption below, click to enlarge, drag to move, click again to shrink.
(() => {
  const zooms = [1, 2, 4];
  let level = 0;
  let drag = null;
  const figure = (node) => node?.matches?.("#app > div > div:last-child > div > img") ? node : null;

  const plain = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent.trim();

  function zoom(img, to, x = 0.5, y = 0.5) {
    level = to;
    const frame = img.parentElement;
    frame.classList.toggle("zoomed", level > 0);
    frame.style.setProperty("--zoom", zooms[level]);
    const page = frame.parentElement;
    const box = img.getBoundingClientRect();
    page.scrollLeft += box.left + x * box.width - page.clientWidth / 2 - page.offsetLeft;
    page.scrollTop += box.top + y * box.height - page.clientHeight / 2;
  }

  // One <img> shows every figure in turn: start each at its full size, with its caption.
  document.addEventListener("load", ({ target }) => {
    const img = figure(target);
    if (!img) return;
    const shown = Object.values(results).find((result) => result.data_uri === img.getAttribute("src"));
    img.alt = shown ? Object.values(shown.labels)[0] : "";
    img.draggable = false;
    img.parentElement.dataset.caption = shown ? plain(shown.caption) : "";
    zoom(img, 0);
  }, true);

  document.addEventListener("pointerdown", ({ target, clientX, clientY }) => {
    const img = figure(target);
    const page = img?.parentElement.parentElement;
    drag = img && { img, page, clientX, clientY, left: page.scrollLeft, top: page.scrollTop };
  });
  document.addEventListener("pointermove", ({ clientX, clientY, buttons }) => {
    if (!drag || !buttons) return;
    drag.page.scrollLeft = drag.left + drag.clientX - clientX;
    drag.page.scrollTop = drag.top + drag.clientY - clientY;
  });
  document.addEventListener("click", ({ target, clientX, clientY }) => {
    const img = figure(target);
    if (!img || !drag || Math.hypot(clientX - drag.clientX, clientY - drag.clientY) > 4) return;
    const box = img.getBoundingClientRect();
    const x = (clientX - box.left) / box.width, y = (clientY - box.top) / box.height;
    zoom(img, (level + 1) % zooms.length, x, y);
  });

  // Snakemake lists a job's parameters as code; the report has them as tables.
  for (const result of Object.values(results)) result.job_properties.params = "";
})();
