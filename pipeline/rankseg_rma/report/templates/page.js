"use strict";
(() => {
  const find = (id) => document.getElementById(id);

  // Numbers by size, text by alphabet; what is not defined comes last either way.
  const valueOf = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = text === "" || text === "–" ? NaN : Number(text);
    return { text, number, isMissing: text === "" || text === "–" };
  };
  const compare = (a, b) =>
    Number.isNaN(a.number) || Number.isNaN(b.number)
      ? a.text.localeCompare(b.text, "en", { numeric: true })
      : a.number - b.number;

  function sortBy(table, column) {
    const headings = [...table.tHead.rows[0].cells];
    const direction = headings[column].getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: valueOf(row, column) }));
    rows.sort((a, b) => a.value.isMissing - b.value.isMissing || sign * compare(a.value, b.value));
    table.tBodies[0].append(...rows.map(({ row }) => row));
  }

  for (const table of document.querySelectorAll(".sortable table")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.addEventListener("click", () => sortBy(table, column));
      heading.replaceChildren(button);
    });
  }

  if (find("case-table")) {
    const rows = [...find("case-table").querySelectorAll("tbody tr")];
    const text = find("case-text"), status = find("case-status");
    const filter = () => {
      const wanted = text.value.trim().toLowerCase();
      let shown = 0;
      for (const row of rows) {
        const inText = `${row.cells[0].textContent} ${row.cells[1].textContent}`.toLowerCase().includes(wanted);
        const inStatus = row.cells[row.cells.length - 1].textContent.includes(status.value);
        row.hidden = !(inText && inStatus);
        shown += !row.hidden;
      }
      find("case-count").textContent = `${shown} of ${rows.length} rows`;
    };
    text.addEventListener("input", filter);
    status.addEventListener("change", filter);
    window.addEventListener("hashchange", () => {
      const target = find(decodeURIComponent(location.hash.slice(1)));
      if (target?.hidden) {
        text.value = status.value = "";
        filter();
        target.scrollIntoView();
      }
    });
    find("case-filter").hidden = false;
    filter();
  }

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open]):not(.long)")];
    opened.forEach((details) => (details.open = true));
  });
  window.addEventListener("afterprint", () => opened.forEach((details) => (details.open = false)));

  // The viewer: NiiVue lies in the page as text and runs only when it is asked for.
  if (!find("viewer-open")) return;
  const data = JSON.parse(find("viewer-data").textContent);
  const message = find("viewer-message");
  const names = Object.keys(data.colours);
  const inputs = {};
  const sliders = [...document.querySelectorAll(".viewer-slice")];
  let viewer, size, filled;

  // Which masks hold the voxel where the planes cross; the sliders follow.
  function describePlace() {
    const place = sliders.map((slider, axis) => {
      const voxel = Math.floor(viewer.scene.crosshairPos[axis] * size[axis]);
      return (slider.value = Math.min(Math.max(voxel, 0), size[axis] - 1));
    });
    const at = place[0] + size[0] * (place[1] + size[1] * place[2]);
    const words = filled.map(({ name, whole }) => `${name} ${whole[at] ? "yes" : "no"}`);
    find("viewer-where").textContent = `Where the planes cross: ${words.join(", ")}.`;
  }

  // Calls back with the index and the coordinates of every voxel.
  function forEachVoxel(visit) {
    for (let z = 0, at = 0; z < size[2]; z++)
      for (let y = 0; y < size[1]; y++) for (let x = 0; x < size[0]; x++, at++) visit(at, x, y, z);
  }

  // Voxels of a mask that touch its outside along an axis.
  function outline(mask) {
    const edge = new Uint8Array(mask.length), [nx, ny, nz] = size;
    const isInner = (at, step, place, count) =>
      count === 1 || (place > 0 && place < count - 1 && mask[at - step] && mask[at + step]);
    forEachVoxel((at, x, y, z) => {
      edge[at] = mask[at] && !(isInner(at, 1, x, nx) && isInner(at, nx, y, ny) && isInner(at, nx * ny, z, nz)) ? 1 : 0;
    });
    return edge;
  }

  // Where outlines coincide, their voxels take the colours in turn, so that none hides another.
  function shareOutlines(shown) {
    shown.forEach((one) => (one.volume.img = new Uint8Array(one.edge)));
    forEachVoxel((at, x, y, z) => {
      const owners = shown.filter(({ edge }) => edge[at]);
      if (owners.length > 1) owners.forEach((one, k) => (one.volume.img[at] = (x + y + z) % owners.length === k ? 1 : 0));
    });
  }

  function update() {
    const strength = Number(find("viewer-opacity").value);
    const shown = filled.filter(({ name }) => inputs[name].checked);
    filled.forEach((one) => {
      one.volume.opacity = shown.includes(one) ? strength : 0;
      one.volume.img = one.whole;
    });
    if (find("viewer-outline").checked) shareOutlines(shown);
    viewer.updateGLVolume();
    describePlace();
  }

  async function show(number) {
    const { NVImage } = window.niivue;
    const found = data.cases[number];
    for (const volume of [...viewer.volumes]) viewer.removeVolume(volume);
    const shown = Object.keys(found.masks);
    // Without an image its first mask, far below the window, is the black ground.
    const ground = found.image ?? found.masks[shown[0]];
    const range = found.image ? { cal_min: 0, cal_max: 255 } : { cal_min: 10, cal_max: 255 };
    const image = await NVImage.loadFromBase64({ base64: ground, name: "image.nii.gz", colormap: "gray", ...range });
    size = [...image.hdr.dims].slice(1, 4);
    viewer.addVolume(image);
    filled = [];
    for (const name of shown) {
      const volume = await NVImage.loadFromBase64({
        base64: found.masks[name], name: `mask${filled.length}.nii.gz`, colormap: `mask${names.indexOf(name)}`,
        cal_min: 0, cal_max: 1,
      });
      filled.push({ name, volume, whole: volume.img, edge: outline(volume.img) });
      viewer.addVolume(volume);
    }
    names.forEach((name) => (inputs[name].disabled = !shown.includes(name)));
    sliders.forEach((slider, axis) => (slider.max = size[axis] - 1));
    viewer.scene.crosshairPos = [...found.place];
    update();
  }

  function addMask(name, place) {
    const label = document.createElement("label"), swatch = document.createElement("span");
    const input = (inputs[name] = document.createElement("input"));
    Object.assign(input, { type: "checkbox", checked: true });
    input.addEventListener("change", update);
    swatch.className = "swatch";
    swatch.style.background = data.colours[name];
    label.append(input, swatch, name);
    find("viewer-masks").append(label);
    const part = (start) => [0, parseInt(data.colours[name].slice(start, start + 2), 16)];
    viewer.addColormap(`mask${place}`, { R: part(1), G: part(3), B: part(5), A: [0, 255], I: [0, 255] });
  }

  async function open() {
    message.textContent = "Opening…";
    try {
      const script = document.createElement("script");
      script.textContent = find("viewer-script").textContent;
      document.head.append(script);
      find("viewer-box").hidden = false;
      viewer = new window.niivue.Niivue({
        crosshairColor: [1, 1, 1, 0.7], crosshairWidth: 0.3, crosshairWidthUnit: "percent", crosshairGap: 4,
        fontColor: [1, 1, 1, 1], showAllOrientationMarkers: true, multiplanarPadPixels: 6, multiplanarShowRender: 0,
        isRadiologicalConvention: true, sagittalNoseLeft: true, isNearestInterpolation: true, dragAndDropEnabled: false,
        loadingText: "", logLevel: "error",
      });
      viewer.onLocationChange = describePlace;
      await viewer.attachToCanvas(find("viewer-canvas"));
      viewer.setSliceType(3);
      names.forEach(addMask);
      await show(0);
      find("viewer-start").hidden = true;
    } catch (error) {
      find("viewer-box").hidden = true;
      message.textContent = `This browser cannot show the viewer (it needs WebGL 2): ${error.message}. The pictures above show the same cases.`;
    }
  }

  find("viewer-open").hidden = false;
  find("viewer-open").addEventListener("click", open, { once: true });
  message.textContent = `${data.cases.length} ${data.cases.length === 1 ? "case" : "cases"} in three planes, with the masks.`;
  find("viewer-case").addEventListener("change", (event) => show(Number(event.target.value)));
  find("viewer-outline").addEventListener("change", update);
  find("viewer-opacity").addEventListener("input", update);
  sliders.forEach((slider, axis) =>
    slider.addEventListener("input", () => {
      viewer.scene.crosshairPos[axis] = (Number(slider.value) + 0.5) / size[axis];
      viewer.drawScene();
      describePlace();
    })
  );
})();
