// A brush over the depth map: a finished stroke is sent as points, fractions of width and height.
let points = null;
const canvas = () => element.querySelector("canvas");

function place(event) {
  const box = canvas().getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
}

function draw() {
  const sheet = canvas();
  const pen = sheet.getContext("2d");
  pen.clearRect(0, 0, sheet.width, sheet.height);
  pen.strokeStyle = "white";
  pen.lineCap = pen.lineJoin = "round";
  pen.lineWidth = props.brush_share * Math.max(sheet.width, sheet.height);
  pen.beginPath();
  // A dot is a line to itself
  for (const [x, y] of [points[0], ...points]) pen.lineTo(x * sheet.width, y * sheet.height);
  pen.stroke();
}

element.addEventListener("pointerdown", (event) => {
  if (event.target !== canvas()) return;
  event.preventDefault();
  canvas().setPointerCapture(event.pointerId);
  canvas().width = canvas().clientWidth;
  canvas().height = canvas().clientHeight;
  points = [place(event)];
  draw();
});
element.addEventListener("pointermove", (event) => {
  if (!points) return;
  points.push(place(event));
  draw();
});
element.addEventListener("pointerup", () => {
  if (!points) return;
  trigger("input", { points });
  points = null;
});
