// A text at its layers, drawn in the browser from data that is sent once: another layer, Play and the details of a token
// ask nothing of the server. Text only ever becomes text nodes and attributes, never markup.
//
// data: see app/player.py. A token that is picked is told to the server as {text, token}. Layer -1 is the plain text.
const FULL = 8; // times the uniform score 1/n at which the shade is darkest
const SECONDS = 1.1; // a layer, while it plays
const SPECIAL = 1, GOLD = 2, UNKNOWN = 4;
const SVG = "http://www.w3.org/2000/svg";

const make = (tag, name = "", text = null) => {
    const one = document.createElement(tag);
    if (name) one.className = name;
    if (text !== null) one.textContent = text;
    return one;
};
const button = (name, text, label, act) => {
    const one = make("button", name, text);
    one.type = "button";
    if (label) one.setAttribute("aria-label", label);
    one.addEventListener("click", act);
    return one;
};
const draw = (tag, looks, text = null) => {
    const one = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(looks)) one.setAttribute(name, value);
    if (text !== null) one.textContent = text;
    return one;
};
const shade = ratio => 0.06 + 0.66 * Math.min(1, Math.log1p(Math.max(0, ratio)) / Math.log1p(FULL));
const exact = (panel, value) => panel.raw || (0 < value && value < 0.01) ? String(Number(value.toPrecision(4))) : value.toFixed(4);
const plural = (count, unit) => `${count} ${count === 1 ? unit.replace(/s$/, "") : unit}`;

// What a panel says of a token at a layer.
const facts = panel => {
    const row = layer => panel.scores.length > 1 || panel.layers === 1 ? Math.max(0, layer) : 0;
    const depth = token => panel.depth === null ? Infinity : panel.depth[token];
    return {
        row, depth,
        score: (layer, token) => panel.scores[row(layer)][token],
        ratio: (layer, token) => panel.scores[row(layer)][token] * panel.n[row(layer)] / panel.total[row(layer)],
        kind: (layer, token) => depth(token) > layer ? "on" : depth(token) === layer ? "cut" : "gone",
        rank: (layer, token) => {
            const mine = panel.scores[row(layer)][token];
            return 1 + panel.scores[row(layer)].filter((one, other) => one > mine && depth(other) >= layer).length;
        },
    };
};
const barOf = panel => panel.raw ? "bar" : "threshold";
const fate = (panel, token) => panel.depth === null ? "" :
    panel.depth[token] === panel.layers ? "never dropped" : `dropped before layer ${panel.depth[token]}`;
const forced = (panel, token) => ({"1": "kept as you asked", "-1": "dropped as you asked"})[panel.forced?.[token]];

const tip = (panel, layer, token) => {
    const is = facts(panel), parts = [panel.tokens[token].name], pieces = panel.pieces[token];
    if (panel.tokens[token].flags & UNKNOWN) parts.push("not in the vocabulary");
    const asked = forced(panel, token);
    if (layer < 0 || is.depth(token) < layer || (panel.late && is.depth(token) === layer)) {
        parts.push(fate(panel, token));
    } else if (panel.undecided?.includes(layer)) {
        parts.push("nothing is decided here", fate(panel, token));
    } else {
        const ratio = panel.raw ? "" : ` = ${is.ratio(layer, token).toFixed(2)}/n, n = ${panel.n[is.row(layer)]}`;
        parts.push(`score ${exact(panel, is.score(layer, token))}${ratio}`);
        if (panel.thresholds !== null && pieces) {
            parts.push(`${pieces.filter(one => one.depth > layer).length} of its ${pieces.length} wordpieces kept`);
        } else if (panel.thresholds !== null && !asked) {
            parts.push(`${barOf(panel)} ${exact(panel, panel.thresholds[layer])}`);
        }
        parts.push(fate(panel, token));
    }
    if (asked) parts.push(`${asked}, whatever it scores`);
    return parts.filter(Boolean).join(" | ");
};

// The whole text; `paint(layer)` changes classes only, so that nothing moves.
const textOf = (panel, on) => {
    const box = make("div", "al-text"), spans = [], is = facts(panel);
    box.dir = "auto";
    box.setAttribute("role", "group");
    let run = null;
    panel.tokens.forEach((token, number) => {
        const gold = Boolean(token.flags & GOLD), before = token.space ? " " : "";
        if (gold && run === null) { box.append(before, run = make("u", "gold")); }
        else if (gold) run.append(before);
        else { run = null; box.append(before); }
        const span = make("span");
        span.setAttribute("role", "button");
        span.tabIndex = number === 0 ? 0 : -1;
        span.dataset.token = number;
        if (token.flags & SPECIAL) span.append(make("bdi", "", token.text)); else span.textContent = token.text;
        (run ?? box).append(span);
        spans.push(span);
    });
    const paint = (layer, picked, moving) => {
        box.setAttribute("aria-label", layer < 0 ? "The text" : `${panel.title ? `${panel.title} at` : "Tokens at"} layer ${layer}`);
        spans.forEach((span, token) => {
            const {text, name, flags} = panel.tokens[token];
            const kind = layer < 0 ? "plain" : is.kind(layer, token), ratio = layer < 0 ? 0 : is.ratio(layer, token), names = [kind];
            // A stroke through one sign would look like another sign.
            if (kind === "cut" && moving && [...text].length > 1 && /[\p{L}\p{N}]/u.test(text)) names.push("stroke");
            if (kind === "cut" && moving) span.style.setProperty("--wait", `${Math.min(0.35, Math.max(0, ratio) * 0.35).toFixed(2)}s`);
            if (flags & UNKNOWN) names.push("unk");
            const apart = layer >= 0 && Boolean(panel.marks?.[layer][token]);
            if (apart) names.push("apart");
            const selected = kind === "on" && Boolean(panel.selected?.[is.row(layer)][token]);
            if (selected) names.push("sel");
            if (ratio < 0) names.push("neg");
            if (token === picked) names.push("pick");
            span.className = names.join(" ");
            span.style.setProperty("--a", (kind === "on" ? shade(Math.abs(ratio)) : 0).toFixed(2));
            const said = tip(panel, layer, token) + (apart ? " | differs from the other side" : "");
            span.title = said;
            const seen = (selected ? " | selected" : "") + (flags & GOLD ? " | marked as evidence" : "");
            span.setAttribute("aria-label", (text.toLowerCase() === name.toLowerCase() ? "" : `${text}: `) + said + seen);
            span.setAttribute("aria-pressed", String(token === picked));
        });
    };
    box.addEventListener("click", event => {
        const span = event.target.closest("[data-token]");
        if (span) on.pick(Number(span.dataset.token));
    });
    box.addEventListener("keydown", event => {
        const at = spans.indexOf(document.activeElement), step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (at < 0) return;
        if (step) {
            const next = spans[Math.min(spans.length - 1, Math.max(0, at + step))];
            spans[at].tabIndex = -1; next.tabIndex = 0; next.focus();
        } else if (event.key === "ArrowDown" || event.key === "ArrowUp") on.step(event.key === "ArrowDown" ? 1 : -1);
        else if (event.key === "Enter" || event.key === " ") on.pick(at);
        else if (event.key === "Escape") on.pick(null);
        else return;
        event.preventDefault();
    });
    return {box, paint};
};

// One layer's head and text.
const rowOf = (data, panel, on) => {
    const section = make("section", panel.title ? "al-method" : "al-layer"), head = make("div", "al-head");
    const text = textOf(panel, on);
    section.append(head, text.box);
    const paint = (asked, picked, moving) => {
        const layer = Math.min(asked, panel.layers - 1), size = panel.tokens.length; // a model may have fewer than the other
        head.replaceChildren();
        if (panel.title) {
            head.append(make("div", "al-name", panel.title));
            for (const line of panel.notes[facts(panel).row(layer)]) head.append(make("div", "al-count", line));
        } else {
            const left = make("div", "al-count"), bar = make("div", "al-bar"), fill = make("i");
            const count = layer < 0 ? size : panel.depth.filter(depth => depth > layer).length;
            left.append(make("b", "", count), ` of ${plural(size, data.unit)}`);
            fill.style.width = `${100 * count / size}%`;
            bar.append(fill);
            const gone = panel.depth.filter(depth => depth === layer).length;
            head.append(make("div", "al-name", layer < 0 ? "The text" : `Layer ${layer}`), left, bar);
            if (layer >= 0) head.append(make("div", "al-count", `${gone || "none"} dropped here`));
        }
        text.paint(layer, picked, moving);
    };
    return {section, paint};
};

// A picked token's score against the threshold over the layers, and its numbers behind it.
const detailsOf = (panel, token, on) => {
    const is = facts(panel), box = make("div", "al-detail"), last = panel.layers - 1, depth = panel.depth[token];
    const pieces = panel.pieces[token], sums = Boolean(pieces), name = panel.tokens[token].text;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", panel.side ? `The chosen token, ${panel.title}` : "The chosen token");
    const said = make("p", "al-said");
    if (panel.side) said.append(`${panel.title}: `);
    const asked = forced(panel, token);
    said.append(make("b", "", name), depth > last ? " is read by all layers" : depth ? ` is read up to layer ${depth - 1}` : " is read by no layer",
        asked ? `: ${asked}.` : sums && depth <= last ? `: before layer ${depth} the last of its ${pieces.length} wordpieces goes.`
            : depth <= last ? `: before layer ${depth} its score is below the ${barOf(panel)}.` : token === 0 && panel.tokens[0].flags & SPECIAL ? ": the classifier reads its last state." : ".");
    const rows = [];
    for (let layer = 0; layer <= Math.min(last, depth); layer++) {
        if (panel.undecided?.includes(layer)) continue;
        const n = panel.n[layer], size = value => panel.raw ? value : value * n;
        rows.push({layer, score: size(is.score(layer, token)), limit: size(panel.thresholds[layer]), rank: `${is.rank(layer, token)} of ${n}`});
    }
    box.append(button("al-close", "\u00d7", "Close", () => on.pick(null)), said);
    if (rows.length) {
        const width = 280, height = 120, top = Math.max(...rows.map(one => Math.max(one.score, one.limit)), 1e-9) * 1.15;
        const x = layer => 30 + (width - 45) * (last ? layer / last : 0.5), y = value => height - 20 - (height - 30) * value / top;
        const unit = panel.raw ? "score" : "score, in 1/n";
        const picture = draw("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${unit} against ${barOf(panel)}, by layer`});
        const line = (key, name) => draw("polyline", {points: rows.map(one => `${x(one.layer)},${y(one[key])}`).join(" "), class: name});
        picture.append(draw("line", {x1: 30, x2: width - 10, y1: y(0), y2: y(0), class: "axis"}), line("limit", "limit"), line("score", "score"));
        for (const one of rows) {
            picture.append(draw("circle", {cx: x(one.layer), cy: y(one.score), r: 4, class: one.layer === depth ? "score gone" : "score"}),
                draw("text", {x: x(one.layer), y: height - 5, "text-anchor": "middle"}, one.layer));
        }
        const end = rows.at(-1), near = Math.abs(y(end.score) - y(end.limit)) < 12;
        picture.append(draw("text", {x: x(end.layer), y: y(end.limit) + (end.limit < end.score || near ? 14 : -6), "text-anchor": end.layer > last / 2 ? "end" : "start"}, barOf(panel)),
            draw("text", {x: 2, y: 10}, unit));
        const table = make("table"), body = make("tbody");
        for (const [label, value] of [["layer", one => one.layer], [unit, one => one.score.toFixed(panel.raw ? 4 : 2)],
            ...(sums ? [["wordpieces kept", one => `${pieces.filter(piece => piece.depth > one.layer).length} of ${pieces.length}`]] : [[barOf(panel), one => one.limit.toFixed(panel.raw ? 4 : 2)]]),
            ["rank", one => one.rank]]) {
            const row = make("tr");
            row.append(make("th", "", label), ...rows.map(one => make("td", "", value(one))));
            body.append(row);
        }
        table.append(body);
        const more = make("details"), scroll = make("div", "al-scroll");
        scroll.tabIndex = 0;
        scroll.append(table);
        more.append(make("summary", "", "Numbers"), scroll);
        box.append(picture, more);
    }
    return box;
};

// Who finds what people marked: a strip a method, aligned token by token, with a bar for its average precision.
const storyOf = (data, on) => {
    const box = make("div", "al-story"), painters = [], gold = data.tokens.map(token => Boolean(token.flags & GOLD));
    const strip = cells => {
        const one = make("div", "al-cells");
        one.append(...cells);
        return one;
    };
    const human = make("div", "al-row");
    human.append(make("div", "al-name", "People"), make("div", "al-count", `marked ${plural(gold.filter(Boolean).length, data.unit)}`),
        strip(gold.map(marked => make("i", marked ? "human" : ""))));
    box.append(human);
    box.classList.toggle("al-unmarked", !gold.some(Boolean));
    data.panels.forEach((panel, number) => {
        const row = make("div", "al-row"), is = facts(panel), bar = make("div", "al-ap"), value = make("div", "al-count");
        const fill = make("i"), chance = make("s"), mean = make("em"), cells = panel.tokens.map(() => make("i"));
        bar.append(fill, chance, ...(panel.means ? [mean] : []));
        chance.title = `chance ${panel.chance.toFixed(2)}`;
        const name = button("al-pickrow", panel.title, null, () => on.row(number));
        row.append(name, bar, value, strip(cells));
        row.addEventListener("click", event => { if (event.target.closest(".al-cells")) on.row(number); });
        box.append(row);
        painters.push((layer, chosen) => {
            const at = is.row(Math.max(0, layer)), found = panel.ap[at];
            fill.style.width = `${100 * (found ?? 0)}%`;
            chance.style.left = `${100 * panel.chance}%`;
            if (panel.means) {
                const usual = panel.means[Math.min(at, panel.means.length - 1)];
                mean.style.left = `${100 * usual}%`;
                mean.title = `mean of ${panel.of}: ${usual.toFixed(2)}`;
            }
            value.textContent = found === null ? "no score" : found.toFixed(2) + (panel.means ? ` (mean ${panel.means[Math.min(at, panel.means.length - 1)].toFixed(2)})` : "");
            bar.setAttribute("aria-label", `${panel.title}: average precision ${value.textContent}, chance ${panel.chance.toFixed(2)}`);
            bar.setAttribute("role", "img");
            row.classList.toggle("chosen", number === chosen);
            name.setAttribute("aria-pressed", String(number === chosen));
            cells.forEach((cell, token) => {
                const ratio = is.depth(token) > layer ? is.ratio(Math.max(0, layer), token) : 0;
                cell.className = ratio < 0 ? "neg" : "";
                cell.style.setProperty("--a", (ratio ? shade(Math.abs(ratio)) : 0).toFixed(2));
                cell.title = panel.tokens[token].text;
            });
        });
    });
    return {box, paint: (layer, chosen) => painters.forEach(paint => paint(layer, chosen))};
};

const hash = () => new URLSearchParams(location.hash.slice(1));
const keepLayer = (layer, last) => { // in the address, behind the #; the server has no need to know
    const next = hash();
    if (layer === last) next.delete("layer"); else next.set("layer", layer);
    const text = next.size ? `#${next}` : "";
    if (text !== location.hash) history.replaceState(history.state, "", location.pathname + location.search + text);
};

export default function player({data, parentElement, setStateValue}) {
    let root = parentElement.querySelector(".al-player");
    if (!root) parentElement.append(root = make("div", "al-player"));
    const last = data.layers - 1, story = data.mode === "story", all = data.mode === "all", least = story ? 0 : -1;
    const inside = layer => Math.min(last, Math.max(least, Math.round(layer)));
    const kept = root.kept ??= {layer: null, picked: null, text: null, data: null, row: 0};
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    let play = false;
    if (kept.layer === null && hash().has("layer")) kept.layer = inside(Number(hash().get("layer")) || 0);
    else if (kept.text !== data.text && data.plays && !still) { kept.layer = least; play = true; }
    else if (kept.layer === null) kept.layer = last;
    kept.layer = inside(kept.layer);
    if (kept.text !== data.text) {
        // The server forgets the token too, or it would be chosen again with its text, and not be marked here.
        if (kept.picked !== null && !data.panels.some(panel => panel.side)) setStateValue("picked", null);
        kept.text = data.text;
        kept.picked = null;
    }
    const told = JSON.stringify(data);
    if (kept.data === told && root.firstChild) return root.ends; // a rerun that changes nothing leaves the focus where it is
    kept.data = told;
    root.stop?.();
    let timer = null;

    const panels = data.panels.map(panel => ({tokens: data.tokens, pieces: data.pieces, unit: data.unit, ...panel}));
    const sides = panels.some(panel => panel.side); // each has a text of its own, and knows its place on the other
    const pickOn = number => token => {
        if (sides && kept.side !== number) { kept.side = number; kept.picked = null; }
        kept.picked = kept.picked === token ? null : token;
        paint();
        if (!sides) setStateValue("picked", kept.picked === null ? null : {text: data.text, token: kept.picked});
    };
    const pickedOn = number => !sides || kept.picked === null || kept.side === number ? kept.picked : panels[kept.side].match[kept.picked];
    const go = layer => { kept.layer = inside(layer); paint(true); };
    const stop = () => { clearInterval(timer); timer = null; paint(); };
    const on = {step: by => { stop(); go(kept.layer + by); }, row: number => { kept.row = number; rebuild(); }};
    const start = () => {
        play = false;
        if (kept.layer === last) go(least);
        timer = setInterval(() => { go(kept.layer + 1); if (kept.layer === last) stop(); }, 1000 * SECONDS);
        paint();
    };
    root.stop = () => clearInterval(timer);

    const controls = make("div", "al-controls"), slider = make("input"), at = make("output", "al-at");
    const toggle = button("al-play", "", null, () => timer === null ? start() : stop());
    controls.setAttribute("role", "group");
    controls.setAttribute("aria-label", "Layers");
    Object.assign(slider, {type: "range", min: least, max: last, step: 1});
    slider.setAttribute("aria-label", "Layer");
    slider.addEventListener("input", () => {
        const chosen = Number(slider.value); // stopping draws the layer that was there
        stop();
        go(chosen);
    });
    controls.append(toggle, button("al-step", "\u2039", "Previous layer", () => on.step(-1)), slider, button("al-step", "\u203a", "Next layer", () => on.step(1)), at);

    const place = make("div", story ? "al-large" : all ? "al-grid" : data.panels[0]?.title ? "al-methods" : "al-large");
    const detail = make("div", "al-details"), live = make("div", "al-unseen"); // a live region has to be there before its text
    live.setAttribute("role", "status");
    const strips = story ? storyOf({...data, panels}, on) : null;
    let rows = [];
    const rebuild = () => {
        const shown = story ? panels.slice(kept.row, kept.row + 1) : panels;
        rows = all ? Array.from({length: data.layers}, () => rowOf(data, panels[0], {...on, pick: pickOn(0)}))
            : shown.map((panel, number) => rowOf(data, panel, {...on, pick: pickOn(number)}));
        place.replaceChildren(...(strips ? [strips.box] : []), ...rows.map(row => row.section));
        paint();
    };
    const explained = () => (sides ? panels : panels.filter(panel => panel.thresholds !== null && !story).slice(0, 1))
        .map(panel => [panel, pickedOn(panels.indexOf(panel))]).filter(([, token]) => token !== null);
    const paint = (moving = false) => {
        rows.forEach((row, number) => row.paint(all ? number : kept.layer, pickedOn(all ? 0 : number), moving));
        strips?.paint(kept.layer, kept.row);
        slider.value = kept.layer;
        const name = kept.layer < 0 ? "The text" : `Layer ${kept.layer} of 0\u2013${last}`;
        slider.setAttribute("aria-valuetext", name);
        at.textContent = name;
        toggle.textContent = timer !== null ? "\u25a0 Stop" : kept.layer === last ? "\u21bb Replay" : "\u25b6 Play";
        const close = {pick: pickOn(kept.side ?? 0)};
        detail.replaceChildren(...explained().map(([panel, token]) => detailsOf(panel, token, close)));
        root.classList.toggle("al-open", Boolean(detail.firstChild));
        const said = [...detail.querySelectorAll(".al-said")].map(one => one.textContent).join(" ");
        if (live.textContent !== said) live.textContent = said;
        if (!all && timer === null && !play) keepLayer(kept.layer, last);
    };
    root.replaceChildren(...(all || last === 0 ? [] : [controls]), place, detail, live);
    rebuild();
    controls.tabIndex = -1;
    const begin = () => { // on a page that has just opened, as soon as it is seen, the first Tab comes to Play
        if (document.activeElement !== document.body) return;
        controls.focus({preventScroll: true});
        if (document.activeElement === controls) controls.blur();
        else if (controls.isConnected) setTimeout(begin, 100);
    };
    begin();
    if (play && !all) start();
    return root.ends = () => { if (!root.isConnected) clearInterval(timer); };
}
