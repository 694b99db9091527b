// Text whose contrast with what is painted behind it is below WCAG's AA, as `text: ratio`. Colours go through a canvas,
// which turns every notation into sRGB. Text that is struck or faded on purpose is not spared; what is switched off is (WCAG
// 1.4.3 leaves inactive components out).
selector => {
    const paint = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgba = color => {
        paint.clearRect(0, 0, 1, 1); paint.fillStyle = color; paint.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
    };
    const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
    const ground = node => {
        const layers = [];
        for (let one = node; one; one = one.parentElement) {
            const color = rgba(getComputedStyle(one).backgroundColor);
            layers.push(color);
            if (color[3] === 1) break;
        }
        return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    };
    const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const bad = [];
    for (const root of document.querySelectorAll(selector)) {
        const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
        while (walk.nextNode()) {
            const node = walk.currentNode.parentElement;
            // A slider's number is drawn above its thumb, which is its parent and has its colour.
            if (!walk.currentNode.data.trim() || !node.offsetParent || node.closest('[data-testid="stSlider"], :disabled')) continue;
            const style = getComputedStyle(node), under = ground(node);
            const [a, b] = [light(over(rgba(style.color), under)), light(under)].sort((x, y) => y - x);
            const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
            const graphic = /^[^\p{L}\p{N}]$/u.test(walk.currentNode.data.trim()); // a mark of a chart's key (WCAG 1.4.11)
            const ratio = (a + 0.05) / (b + 0.05);
            const what = walk.currentNode.data.trim().slice(0, 30);
            if (ratio < (large || graphic ? 3 : 4.5) - 0.02) bad.push(`${what}: ${ratio.toFixed(2)}`);
        }
    }
    return [...new Set(bad)];
}
