// From an image to detections with onnxruntime-web; docs/exported-files.md explains each number.

// Run a model: {name, score, box: [x1, y1, x2, y2] in pixels}, best first. `model` is what `loadModel` returned.
export async function detect(model, image, conf = 0.25, iou = 0.45) {
  const {names, size: [height, width], needsNms} = model;
  const input = letterbox(image, height, width);
  const tensor = new ort.Tensor("float32", input.pixels, [1, 3, height, width]);
  const rows = (await model.session.run({images: tensor})).output0.data;
  return select(rows, names, input, needsNms, conf, iou);
}

// Load an ONNX file from its bytes; names, size and needs_nms are read from its metadata.
export async function loadModel(bytes) {
  const metadata = readMetadata(bytes);
  if ((metadata.output ?? "decoded") !== "decoded") throw Error("the file has another output; export it without --output");
  const session = await ort.InferenceSession.create(bytes);
  const quoted = [...metadata.names.matchAll(/'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"/g)];
  const names = quoted.map((match) => (match[1] ?? match[2]).replace(/\\(.)/g, "$1"));
  return {session, names, size: JSON.parse(metadata.size), needsNms: metadata.needs_nms !== "false"};
}

// Scale an ImageData without changing its aspect ratio and pad it: RGB planes, 0..1.
function letterbox(image, height, width) {
  const gain = Math.min(height / image.height, width / image.width);
  const scaled = {width: evenRound(image.width * gain), height: evenRound(image.height * gain)};
  const left = Math.floor((width - scaled.width) / 2), top = Math.floor((height - scaled.height) / 2);
  const columns = weights(image.width, scaled.width, gain < 0.5), lines = weights(image.height, scaled.height, gain < 0.5);
  const narrow = new Float32Array(image.height * scaled.width * 3);
  for (let y = 0; y < image.height; y++)
    columns.forEach((parts, x) => {
      for (const [from, weight] of parts)
        for (let c = 0; c < 3; c++) narrow[(y * scaled.width + x) * 3 + c] += weight * image.data[(y * image.width + from) * 4 + c];
    });
  const pixels = new Float32Array(3 * height * width).fill(114 / 255);
  lines.forEach((parts, y) => {
    for (let x = 0; x < scaled.width; x++)
      for (let c = 0; c < 3; c++) {
        let value = 0;
        for (const [from, weight] of parts) value += weight * narrow[(from * scaled.width + x) * 3 + c];
        pixels[(c * height + top + y) * width + left + x] = Math.round(value) / 255;
      }
  });
  return {pixels, left, top, scaled, width: image.width, height: image.height};
}

// The pixels, with weights, that each of `target` pixels is made of: area averaging or linear interpolation.
function weights(source, target, area) {
  const step = source / target;
  return Array.from({length: target}, (_, i) => {
    if (area) {
      const start = i * step, end = start + step, parts = [];
      for (let from = Math.floor(start); from < Math.min(end, source); from++)
        parts.push([from, (Math.min(end, from + 1) - Math.max(start, from)) / step]);
      return parts;
    }
    const center = Math.min(Math.max((i + 0.5) * step - 0.5, 0), source - 1), from = Math.floor(center);
    return [[from, 1 - (center - from)], [Math.min(from + 1, source - 1), center - from]];
  });
}

// Round halves to the even number, as Python does; at least 1.
function evenRound(value) {
  const rounded = Math.round(value);
  return Math.max(Math.abs(value % 1) === 0.5 && rounded % 2 ? rounded - 1 : rounded, 1);
}

// Rows (cx, cy, w, h, objectness, class probabilities) into detections.
function select(rows, names, input, needsNms, conf, iou) {
  const columns = 5 + names.length, candidates = [];
  for (let at = 0; at < rows.length; at += columns) {
    let label = 0;
    for (let k = 1; k < names.length; k++) if (rows[at + 5 + k] > rows[at + 5 + label]) label = k;
    const score = rows[at + 4] * rows[at + 5 + label];
    if (!(score > conf)) continue;
    const [x, y, w, h] = rows.slice(at, at + 4);
    const box = [x - w / 2 - input.left, y - h / 2 - input.top, x + w / 2 - input.left, y + h / 2 - input.top];
    if (box[2] > 0 && box[3] > 0 && box[0] < input.scaled.width && box[1] < input.scaled.height)
      candidates.push({label, score, box});
  }
  candidates.sort((a, b) => b.score - a.score);
  const selected = [];
  for (const one of candidates) {
    if (selected.length === 300) break;
    const better = needsNms && selected.some((other) => other.label === one.label && overlap(other.box, one.box) > iou);
    if (!better) selected.push(one);
  }
  const sides = [input.width, input.height], scaled = [input.scaled.width, input.scaled.height];
  const clip = (value, i) => Math.min(Math.max((value / scaled[i % 2]) * sides[i % 2], 0), sides[i % 2]);
  return selected.map(({label, score, box}) => ({name: names[label], score, box: box.map(clip)}));
}

// IoU of two boxes.
function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]), height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  const area = (box) => (box[2] - box[0]) * (box[3] - box[1]);
  return (width * height) / (area(a) + area(b) - width * height);
}

// The metadata of an ONNX file, field 14 of its protocol buffer, which onnxruntime-web does not return.
function readMetadata(bytes) {
  const decoder = new TextDecoder(), metadata = {};
  for (const [number, entry] of fields(bytes))
    if (number === 14) {
      const parts = Object.fromEntries(fields(entry));
      metadata[decoder.decode(parts[1])] = decoder.decode(parts[2] ?? new Uint8Array());
    }
  return metadata;
}

function* fields(bytes) {
  let position = 0;
  const integer = () => {
    let value = 0, factor = 1;
    for (;;) {
      const byte = bytes[position++];
      value += (byte & 127) * factor;
      factor *= 128;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const tag = integer(), value = integer();
    if ((tag & 7) === 2) {
      yield [Math.floor(tag / 8), bytes.subarray(position, position + value)];
      position += value;
    }
  }
}
