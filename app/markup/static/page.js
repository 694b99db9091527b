// The players of a page that stands alone; player.js stands before this in the same script. The layer is kept behind the
// # of the page's address: a link to a page can name one.
const fragment = () => new URLSearchParams(location.hash.slice(1));
window.alAddress = {
    read: () => fragment().get("layer"),
    show: layer => {
        const next = fragment();
        if (layer) next.set("layer", layer); else next.delete("layer");
        history.replaceState(null, "", next.size ? `#${next}` : location.pathname + location.search);
    },
    leave: () => {},
};
const sets = JSON.parse(document.getElementById("al-data").textContent);
for (const element of document.querySelectorAll("[data-player]")) {
    const choices = sets[element.dataset.player], place = element.querySelector(".al-place");
    const box = element.querySelector("input[type=checkbox]");
    const show = () => player({
        data: box.checked ? choices.words : choices.tokens, parentElement: place, setStateValue: () => {}, setTriggerValue: () => {},
    });
    box.addEventListener("change", show);
    show();
}
