// The text at its layers, drawn in the browser from data that is sent once: another layer, Play and the details of a
// token ask nothing of the server. Text only ever becomes text nodes and attributes, never markup.
//
// data: what app/markup/player.py says. A token that is picked is told to the server as {text, token}.
const FULL = 8; // times the uniform score 1/n at which the shade is darkest, as in app/markup/render.py
const SECONDS = 1.1; // a layer, while it plays
const SPECIAL = 1, GOLD = 2, UNKNOWN = 4;

const make = (tag, name = "", text = null) => {
    const one = document.createElement(tag);
    if (name) one.className = name;
    if (text !== null) one.textContent = text;
    return one;
};
const shade = ratio => 0.06 + 0.66 * Math.min(1, Math.log1p(Math.max(0, ratio)) / Math.log1p(FULL));
// Small ones with four digits, as render.py says them, and all of another policy than AdapLeR's.
const exact = (panel, value) => panel.raw || (0 < value && value < 0.01) ? String(Number(value.toPrecision(4))) : value.toFixed(4);
const barOf = panel => panel.raw ? "bar" : "threshold";
const plural = (count, unit) => `${count} ${count === 1 ? unit.replace(/s$/, "") : unit}`;

// What a panel says of a token at a layer.
const facts = panel => {
    const row = layer => panel.scores.length > 1 || panel.layers === 1 ? layer : 0;
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

const fate = (panel, token) => panel.depth === null ? "" :
    panel.depth[token] === panel.layers ? "never dropped" : `dropped before layer ${panel.depth[token]}`;

// What somebody asked for, who wants to see what happens then.
const forced = (panel, token) => ({"1": "kept as you asked", "-1": "dropped as you asked"})[panel.forced?.[token]];

const alive = (pieces, layer) => pieces.filter(one => one.depth > layer).length;

const tip = (panel, layer, token) => {
    const is = facts(panel), parts = [panel.tokens[token].name];
    if (panel.tokens[token].flags & UNKNOWN) parts.push("not in the vocabulary");
    // Of scores that decide who enters the next layer a token that this one does not read has none.
    if (is.depth(token) < layer || (panel.late && is.depth(token) === layer)) return [...parts, fate(panel, token)].join(" | ");
    if (panel.undecided?.includes(layer)) return [...parts, "nothing is decided here", fate(panel, token)].join(" | ");
    const n = panel.n[is.row(layer)];
    const ratio = panel.raw ? "" : ` = ${is.ratio(layer, token).toFixed(2)}/n, n = ${n}`;
    parts.push(`score ${exact(panel, is.score(layer, token))}${ratio}`);
    const pieces = panel.pieces[token], sentence = pieces && panel.unit === "sentences";
    if (pieces && panel.thresholds !== null && sentence) {
        parts.push(`${alive(pieces, layer)} of its ${pieces.length} wordpieces kept`);
    } else if (pieces && panel.thresholds !== null) {
        parts.push("kept while one of its wordpieces is: " + pieces.map(one => `${one.name} ` + (one.depth < layer
            ? `dropped before layer ${one.depth}` : exact(panel, one.scores[layer]))).join(", "));
    }
    const asked = forced(panel, token);
    if (asked) parts.push(`${asked}, whatever it scores`);
    else if (panel.thresholds !== null && !sentence) parts.push(`${barOf(panel)} ${exact(panel, panel.thresholds[layer])}`);
    if (panel.depth !== null) parts.push(fate(panel, token));
    return parts.join(" | ");
};

// The whole text; `paint(layer)` changes classes only, so that nothing moves.
const textOf = (panel, on) => {
    const box = make("div", "al-text"), spans = [];
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
    const is = facts(panel);
    const paint = (layer, picked) => {
        box.setAttribute("aria-label", `${panel.title ? `${panel.title} at` : "Tokens at"} layer ${layer}`);
        spans.forEach((span, token) => {
            const kind = is.kind(layer, token), ratio = is.ratio(layer, token), names = [kind];
            if (panel.tokens[token].flags & UNKNOWN) names.push("unk");
            const apart = Boolean(panel.marks?.[layer][token]);
            if (apart) names.push("apart");
            const selected = kind === "on" && Boolean(panel.selected?.[is.row(layer)][token]);
            if (selected) names.push("sel");
            if (ratio < 0) names.push("neg");
            if (token === picked) names.push("pick");
            span.className = names.join(" ");
            span.style.setProperty("--a", (kind === "on" ? shade(Math.abs(ratio)) : 0).toFixed(2));
            const {text, name, flags} = panel.tokens[token], same = text.toLowerCase() === name.toLowerCase();
            const said = tip(panel, layer, token) + (apart ? " | differs from the other side" : "");
            span.dataset.tip = said;
            if (span.title) span.title = said;
            // Whoever does not see lines is told of them.
            const seen = (selected ? " | selected" : "") + (flags & GOLD ? " | marked as evidence" : "");
            span.setAttribute("aria-label", (same ? "" : `${text}: `) + said + seen);
            span.setAttribute("aria-pressed", String(token === picked));
        });
    };
    // A title is there only under the mouse: a screen reader would read it after the name, which says the same.
    box.addEventListener("pointerover", event => {
        const span = event.target.closest("[data-token]");
        if (span) span.title = span.dataset.tip;
    });
    box.addEventListener("pointerout", event => event.target.closest("[data-token]")?.removeAttribute("title"));
    box.addEventListener("click", event => {
        const span = event.target.closest("[data-token]");
        if (span) on.pick(Number(span.dataset.token));
    });
    box.addEventListener("keydown", event => {
        const at = spans.indexOf(document.activeElement);
        if (at < 0) return;
        const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
        if (step) {
            const next = spans[Math.min(spans.length - 1, Math.max(0, at + step))];
            spans[at].tabIndex = -1; next.tabIndex = 0; next.focus();
        } else if (event.key === "ArrowDown" || event.key === "ArrowUp") on.step(event.key === "ArrowDown" ? 1 : -1);
        else if (event.key === "Enter" || event.key === " ") on.pick(at);
        else if (event.key === "Escape") on.pick(null);
        else return;
        event.preventDefault();
        event.stopPropagation();
    });
    return {box, paint};
};

// What a layer leaves, for who hears the page.
const counts = (panel, asked) => {
    const layer = Math.min(asked, panel.layers - 1), left = panel.depth.filter(depth => depth > layer).length;
    const gone = panel.depth.filter(depth => depth === layer).length;
    return `; ${panel.title ? `${panel.title}: ` : ""}${left} of ${plural(panel.tokens.length, panel.unit)}, `
        + `${gone || "none"} dropped here`;
};

// One layer's head and text.
const rowOf = (data, panel, on) => {
    const section = make("section", panel.title ? "al-method" : "al-layer"), head = make("div", "al-head");
    const text = textOf(panel, on);
    section.append(head, text.box);
    const paint = (asked, picked) => {
        const layer = Math.min(asked, panel.layers - 1); // a model may have fewer than the one beside it
        head.replaceChildren();
        const count = panel.depth?.filter(depth => depth > layer).length;
        if (panel.title) {
            head.append(make("div", "al-name", panel.title));
            for (const line of panel.notes[facts(panel).row(layer)]) head.append(make("div", "al-count", line));
        } else {
            const left = make("div", "al-count"), bar = make("div", "al-bar"), fill = make("i");
            left.append(make("b", "", count), ` of ${plural(panel.tokens.length, data.unit)}`);
            fill.style.width = `${100 * count / panel.tokens.length}%`;
            bar.append(fill);
            const gone = panel.depth.filter(depth => depth === layer).length;
            head.append(make("div", "al-name", `Layer ${layer}`), left, bar,
                make("div", "al-count", `${gone || "none"} dropped here, n = ${panel.n[layer]}`));
        }
        text.paint(layer, picked);
    };
    return {section, paint};
};

// How long a sentence is read.
const lasts = (pieces, depth, last) => depth > last
    ? ` is read by all ${last + 1} layers: ${alive(pieces, last)} of its ${pieces.length} wordpieces reach the last one.`
    : depth === 0 ? ` is read by no layer: all its ${pieces.length} wordpieces are dropped before the first.`
        : ` is read up to layer ${depth - 1}: before layer ${depth} the last of its ${pieces.length} wordpieces goes.`;

// A picked token's way through the layers.
const detailsOf = (panel, token, on) => {
    const is = facts(panel), box = make("div", "al-detail"), last = panel.layers - 1, depth = panel.depth[token];
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", panel.side ? `The chosen token, ${panel.title}` : "The chosen token");
    const name = panel.tokens[token].text, close = make("button", "al-close", "\u00d7");
    close.type = "button";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", () => on.pick(null));
    const said = make("p", "al-said");
    const size = (value, layer) => panel.raw ? exact(panel, value) : `${(value * panel.n[layer]).toFixed(2)}/n`;
    const value = layer => size(is.score(layer, token), layer), limit = layer => size(panel.thresholds[layer], layer);
    const pieces = panel.pieces[token], sentence = pieces && panel.unit === "sentences";
    if (panel.side) said.append(`${panel.title}: `);
    said.append(make("b", "", name), sentence ? lasts(pieces, depth, last) : depth > last
        ? (panel.tokens[token].flags & SPECIAL && token === 0
            ? " is never dropped: the classifier reads its last state."
            : forced(panel, token) ? ` is read by all ${panel.layers} layers: ${forced(panel, token)}, whatever it scores.`
            : ` is read by all ${panel.layers} layers.` + (panel.undecided?.includes(last) ? ""
                : ` At the last one it scores ${value(last)}, and the ${barOf(panel)} is ${limit(last)}.`))
        : `${depth ? ` is read up to layer ${depth - 1} and` : " is"} dropped before layer ${depth}: `
            + (forced(panel, token) ? `${forced(panel, token)}, whatever it scores.`
                : (pieces ? "all its wordpieces score" : `it scores ${value(depth)},`)
                + ` less than the ${barOf(panel)} ${limit(depth)}.`));
    const table = make("table"), rows = [["layer"], ["score"], [panel.raw ? "times the mean" : "times 1/n"], [sentence ? "wordpieces kept" : barOf(panel)], ["rank"], ["fate"]];
    for (let layer = 0; layer <= Math.min(last, depth); layer++) {
        const here = depth > layer ? "kept" : "dropped";
        const cells = panel.undecided?.includes(layer) ? [layer, "", "", "", "", "nothing is decided"] : [layer, exact(panel, is.score(layer, token)), is.ratio(layer, token).toFixed(2),
            sentence ? `${alive(pieces, layer)} of ${pieces.length}` : exact(panel, panel.thresholds[layer]), `${is.rank(layer, token)} of ${(panel.ranked ?? panel.n)[layer]}`, here
        ];
        cells.forEach((cell, row) => rows[row].push(cell));
    }
    const body = make("tbody");
    rows.forEach((cells, number) => {
        const line = make("tr");
        cells.forEach((cell, column) => {
            const one = make(number === 0 || column === 0 ? "th" : "td", "", cell);
            if (number === 0 || column === 0) one.scope = column === 0 ? "row" : "col";
            line.append(one);
        });
        body.append(line);
    });
    table.append(body);
    const scroll = make("div", "al-scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "group");
    scroll.setAttribute("aria-label", "Its numbers by layer");
    scroll.append(table);
    box.append(close, said, scroll);
    if (pieces && !sentence) {
        box.append(make("p", "al-note", "A word has the sum of its wordpieces' scores and goes with the last of them: "
            + pieces.map(one => `${one.name} ${one.depth === panel.layers ? "stays" : `goes before layer ${one.depth}`}`).join(", ") + "."));
    }
    return box;
};

const askedFor = () => new URL(location.href).searchParams.get("layer");

export default function player({data, parentElement, setStateValue, setTriggerValue}) {
    const address = () => window.alAddress; // its script may run after this one
    let root = parentElement.querySelector(".al-player");
    if (!root) parentElement.append(root = make("div", "al-player"));
    const kept = root.kept ??= {layer: null, picked: null, text: null, data: null};
    const last = data.layers - 1, asked = Number((address() ?? {read: askedFor}).read() ?? NaN);
    const inside = layer => Math.min(last, Math.max(0, Math.round(layer)));
    if (kept.layer === null) kept.layer = Number.isFinite(asked) ? inside(asked) : 0;
    kept.layer = inside(kept.layer);
    if (kept.text !== data.text) {
        // The server forgets the token too, or it would be chosen again with its text, and not be marked here.
        if (kept.picked !== null && !data.panels.some(panel => panel.side)) setStateValue("picked", null);
        kept.text = data.text;
        kept.picked = null;
    }
    const same = kept.data === JSON.stringify(data); // a rerun that changes nothing leaves the focus where it is
    kept.data = JSON.stringify(data);
    let timer = null;

    const controls = make("div", "al-controls"), play = make("button", "al-play"), slider = make("input");
    controls.setAttribute("role", "group");
    controls.setAttribute("aria-label", "Layers");
    const arrow = (label, sign, step) => {
        const one = make("button", "al-step", sign);
        one.type = "button";
        one.setAttribute("aria-label", label);
        one.addEventListener("click", () => { stop(); on.step(step); });
        return one;
    };
    const shown = make("output", "al-at"), at = make("span"), counted = make("span", "al-unseen");
    shown.append(at, counted);
    play.type = "button";
    Object.assign(slider, {type: "range", min: 0, max: last, step: 1});
    slider.setAttribute("aria-label", "Layer");
    controls.append(play, arrow("Previous layer", "\u2039", -1), slider, arrow("Next layer", "\u203a", 1), shown);
    if (data.talk) {
        const leave = make("button", "al-step", "\u00d7");
        leave.type = "button";
        leave.setAttribute("aria-label", "Leave talk mode");
        leave.addEventListener("click", () => setTriggerValue("leave", true));
        controls.append(leave);
    }

    const panels = data.panels.map(panel => ({tokens: data.tokens, pieces: data.pieces, unit: data.unit, ...panel}));
    const sides = panels.some(panel => panel.side); // each has a text of its own, and knows its place on the other
    const pickOn = number => (token => {
        if (sides && kept.side !== number) { kept.side = number; kept.picked = null; }
        kept.picked = kept.picked === token ? null : token;
        draw();
        if (!sides) setStateValue("picked", kept.picked === null ? null : {text: data.text, token: kept.picked});
    });
    const pickedOn = number => !sides || kept.picked === null || kept.side === number ? kept.picked
        : panels[kept.side].match[kept.picked];
    const on = {
        step: by => { kept.layer = inside(kept.layer + by); draw(); },
    };
    const stop = () => { if (timer !== null) { clearInterval(timer); timer = null; draw(); } };
    const toggle = () => {
        if (timer !== null) return stop();
        if (kept.layer === last) kept.layer = 0;
        timer = setInterval(() => {
            on.step(1);
            if (kept.layer === last) stop();
        }, 1000 * SECONDS);
        draw();
    };
    play.addEventListener("click", toggle);
    slider.addEventListener("input", () => { stop(); kept.layer = Number(slider.value); draw(); });

    const all = data.mode === "all";
    const rows = all ? Array.from({length: data.layers}, () => rowOf(data, panels[0], {...on, pick: pickOn(0)}))
        : panels.map((panel, number) => rowOf(data, panel, {...on, pick: pickOn(number)}));
    const place = make("div", all ? "al-grid" : data.panels[0]?.title ? "al-methods" : "al-large");
    place.append(...rows.map(row => row.section));
    const detail = make("div", "al-details");
    // A live region has to be there before its text: what comes into the page together with its text is not read out.
    const live = make("div", "al-unseen");
    live.setAttribute("role", "status");
    const told = sides ? panels : panels.filter(panel => panel.thresholds !== null).slice(0, 1);
    const explained = () => told.map(panel => [panel, pickedOn(panels.indexOf(panel))]).filter(([, token]) => token !== null);

    const draw = () => {
        rows.forEach((row, number) => row.paint(all ? number : kept.layer, pickedOn(all ? 0 : number)));
        slider.value = kept.layer;
        slider.setAttribute("aria-valuetext", `Layer ${kept.layer} of 0 to ${last}`);
        at.textContent = `Layer ${kept.layer} of 0\u2013${last}`;
        counted.textContent = panels.filter(panel => panel.depth !== null).map(panel => counts(panel, kept.layer)).join("");
        play.textContent = timer === null ? "\u25b6 Play" : "\u25a0 Stop";
        const close = {pick: pickOn(kept.side ?? 0)};
        detail.replaceChildren(...explained().map(([panel, token]) => detailsOf(panel, token, close)));
        const told = [...detail.querySelectorAll(".al-said")].map(one => one.textContent).join(" ");
        if (live.textContent !== told) live.textContent = told;
        address()?.show(kept.layer);
    };
    root.classList.toggle("al-talk", Boolean(data.talk));
    if (!same || !root.firstChild) {
        root.replaceChildren(...(all || last === 0 ? [] : [controls]), place, detail, live);
        root.live?.stop();
        root.live = {stop: () => clearInterval(timer), toggle, on, leave: () => setTriggerValue("leave", true)};
        draw();
    }
    const steps = {ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1, End: last, Home: -last}; // in talk mode
    const keys = event => {
        const typing = event.target.closest?.("input, textarea, select, button, [role=button], [role=slider]");
        if (!data.talk || (typing && !typing.closest(".al-player")) || event.ctrlKey || event.metaKey) return;
        const live = root.live;
        if (event.key === " " && event.target.closest?.(".al-step, .al-close")) return; // a button's own key
        if (event.key === " ") live.toggle();
        else if (event.key in steps) live.on.step(steps[event.key]);
        else if (event.key === "Escape") live.leave();
        else return;
        event.preventDefault();
    };
    document.addEventListener("keydown", keys);
    return () => {
        document.removeEventListener("keydown", keys);
        if (!root.isConnected) { root.live?.stop(); address()?.leave(); }
    };
}
