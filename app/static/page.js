// The players of a page that stands alone; player.js stands before this in the same script.
const sets = JSON.parse(document.getElementById("al-data").textContent);
for (const element of document.querySelectorAll("[data-player]")) {
    const choices = sets[element.dataset.player], place = element.querySelector(".al-place");
    const box = element.querySelector("input[type=checkbox]");
    const show = () => player({data: box.checked ? choices.words : choices.tokens, parentElement: place, setStateValue: () => {}});
    box.addEventListener("change", show);
    show();
}
