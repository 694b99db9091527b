// A link of st.navigation makes two entries in the history: the view that one leaves, without its settings, or the next
// view, without those that it had; and then what is meant. With the second of them alone, Back comes to what was left.
const push = history.pushState.bind(history);
let last = {time: -Infinity, within: null};

export default function keep() {
    history.pushState = (state, title, url) => {
        const time = performance.now(), within = new URL(url, location.href).pathname === location.pathname;
        if (time - last.time < 2000 && within !== last.within) history.replaceState(state, title, url);
        else push(state, title, url);
        last = {time, within};
    };
}
