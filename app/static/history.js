// Going to another view makes up to three entries in the history: the view that one leaves without its settings, the
// next view with settings that it does not have, and what is meant. With the last of them alone, Back comes to what was
// left: only the first entry after a click or a key is a new one.
const push = history.pushState.bind(history);
let asked = false;
for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, () => asked = true, true);

export default function keep() {
    history.pushState = (...entry) => {
        if (asked) push(...entry);
        else history.replaceState(...entry);
        asked = false;
    };
}
