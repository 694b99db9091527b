// The address of the page. Streamlit writes the state of the bound widgets into it, but replaces the entry of the
// history each time, so that Back would leave the app. Here another place (view, text, checkpoint) gets an entry of its
// own, and what is only a setting of the place replaces it. The layer of the player, which changes without the server,
// stands in the address too.
(() => {
    if (window.alAddress) return; // once a tab, whatever reruns
    const PLACE = ["view", "source", "corpus", "split", "document", "part", "checkpoint"];
    // Streamlit takes a setting out of the address while its control is not drawn. Where it belongs to other views than
    // the one that is shown, it stays, as the session remembers it too: a reload finds it.
    const LAYERS = "Layer by layer", COMPARE = "Compare methods", SIDES = "Side by side"; // as in app/server/state.py
    const DRAWN = {show: [LAYERS], units: [LAYERS, COMPARE], methods: [COMPARE], differs: [SIDES], scale2: [SIDES],
        checkpoint2: [SIDES], document2: [SIDES]};
    const isDrawn = (name, url) => DRAWN[name].includes(url.searchParams.get("view") ?? LAYERS)
        && url.searchParams.get("talk") !== "true";
    const LONGEST = 1500; // characters of a text, ADDRESS_CHARACTERS in app/server/state.py
    const LONG = {text: "long", query: "long-query"}; // as there
    const address = window.alAddress = {layer: null};
    const push = history.pushState.bind(history), replace = history.replaceState.bind(history);
    const place = url => PLACE.map(name => url.searchParams.get(name) ?? "").join("\n");
    let restoring = false; // from Back until the next action: what is written then belongs to the entry that is shown
    addEventListener("popstate", () => { restoring = true; }, true);
    for (const action of ["pointerdown", "keydown"]) addEventListener(action, () => { restoring = false; }, true);
    const write = (state, _, to) => {
        const here = new URL(location.href), next = new URL(to ?? here, here);
        if (address.layer !== null) {
            if (address.layer) next.searchParams.set("layer", address.layer); else next.searchParams.delete("layer");
        }
        for (const name of Object.keys(DRAWN)) {
            if (isDrawn(name, next) || next.searchParams.has(name)) continue;
            for (const value of here.searchParams.getAll(name)) next.searchParams.append(name, value);
        }
        for (const [name, mark] of Object.entries(LONG)) {
            const text = next.searchParams.get(name);
            if (text !== null && text.length > LONGEST) {
                next.searchParams.delete(name);
                next.searchParams.set(mark, "1"); // after a reload the page says that the text could not be kept
            } else if (text !== null || !next.searchParams.has("source")) next.searchParams.delete(mark);
        }
        (restoring || place(next) === place(here) ? replace : push)(state, "", next);
    };
    history.pushState = history.replaceState = write;
    address.show = layer => { address.layer = layer; write({}, "", location.href); };
    address.leave = () => { address.layer = null; };
    address.read = () => new URL(location.href).searchParams.get("layer");
})();
