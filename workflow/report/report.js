// Figures in the report: caption below, click to enlarge, drag to move, click again to shrink.
(() => {
  const zooms = [1, 2, 4];
  let level = 0;
  let drag = null;
  const figure = (node) => node?.matches?.("#app > div > div:last-child > div > img") ? node : null;

  const plain = (html) => new DOMParser().parseFromString(html, "text/html").body.textContent.trim();

  function zoom(img, to, x = 0.5, y = 0.5) {
    const frame = img.parentElement;
    const page = frame.parentElement;
    if (to === 1) {
      // The picture's own size on the page: the element around it may be wider.
      const ratio = img.naturalWidth / img.naturalHeight;
      frame.dataset.fit = Math.min(img.clientWidth, img.clientHeight * ratio);
    }
    level = to;
    frame.classList.toggle("zoomed", level > 0);
    frame.style.setProperty("--width", `${zooms[level] * frame.dataset.fit}px`);
    const box = img.getBoundingClientRect();
    const outside = page.getBoundingClientRect();
    page.scrollLeft += box.left + x * box.width - (outside.left + outside.width / 2);
    page.scrollTop += box.top + y * box.height - (outside.top + outside.height / 2);
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
    // Where in the picture: while it is shown whole, it stands in the middle of its element.
    const ratio = img.naturalWidth / img.naturalHeight;
    const width = Math.min(box.width, box.height * ratio), height = width / ratio;
    const x = (clientX - box.left - (box.width - width) / 2) / width;
    const y = (clientY - box.top - (box.height - height) / 2) / height;
    zoom(img, (level + 1) % zooms.length, x, y);
  });

  // Snakemake lists a job's parameters as code; the report has them as tables.
  for (const result of Object.values(results)) result.job_properties.params = "";
})();
