"use strict";
// Keeps the page up to date and draws what happened over time. All that comes from the pool becomes text nodes and
// attributes that nothing runs from. The columns are those of html.c.
(() => {
    const EVERY = 2000, PATIENCE = 8000, SVG = "http://www.w3.org/2000/svg";
    const $ = (id) => document.getElementById(id);
    const live = $("live"), page = document.body.dataset.page, poll = document.body.dataset.poll;
    let known = 0, asked = 0, timer = 0, updates = 0;

    // --- how things are said

    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    const ago = (s) => s === null || s === undefined ? "" : s < 60 ? Math.round(s) + " s" : s < 3600 ?
        Math.floor(s / 60) + "m" + two(s % 60) + "s" : s < 86400 ? Math.floor(s / 3600) + "h" + two(s / 60 % 60) + "m" :
        Math.floor(s / 86400) + "d" + two(s / 3600 % 24) + "h";
    const number = (v) => v === null || v === undefined ? "" : String(v);
    const rate = (v) => v === null || v === undefined ? "" : v.toFixed(v < 10 ? 2 : v < 100 ? 1 : 0);
    const save = (j) => j.save_last_s === null || j.save_last_s === undefined ? "-" : j.save_last_s.toFixed(2) + " s, " +
        Math.min(100, j.running_s > 0 ? 100 * j.save_s / j.running_s : 0).toFixed(1) + " %";
    const clock = (t) => new Date(t * 1000).toLocaleTimeString();

    // --- rows: what has not changed is left alone, so that a selection stays

    function put(cell, text) {
        if (cell.textContent !== text)
            cell.textContent = text;
    }

    function state(cell, name) {
        let b = cell.firstElementChild;
        if (!b)
            b = cell.appendChild(document.createElement("b"));
        b.className = "s " + name;
        put(b, name);
    }

    function job(cell, id) {
        let a = cell.firstElementChild;
        if (!a)
            a = cell.appendChild(document.createElement("a"));
        if (a.textContent !== String(id)) {
            a.textContent = id;
            a.href = "/job/" + encodeURIComponent(id);
        }
    }

    // cells: [class, how, what]; how is one of the functions above or below.
    function table(id, list, cells) {
        const body = $(id).tBodies[0];
        $(id).hidden = !list.length;
        $(id + "-none").hidden = list.length > 0;
        while (body.rows.length > list.length)
            body.deleteRow(-1);
        list.forEach((item, i) => {
            const row = body.rows[i] || body.insertRow();
            cells(item).forEach(([kind, how, what], k) => {
                const cell = row.cells[k] || row.insertCell();
                if (cell.className !== kind)
                    cell.className = kind;
                how(cell, what);
            });
        });
    }

    function more(id, n) {
        $(id).hidden = n <= 0;
        put($(id), "and " + n + " more");
    }

    // --- lines over time

    function element(name, attributes) {
        const e = document.createElementNS(SVG, name);
        for (const [key, value] of Object.entries(attributes))
            e.setAttribute(key, value);
        return e;
    }

    // Steps a second between points; null where an attempt ends.
    function rates(trend) {
        const points = [], marks = [];
        for (let i = 1; i < trend.t.length; i++) {
            const dt = trend.t[i] - trend.t[i - 1], ds = trend.steps[i] - trend.steps[i - 1];
            if (trend.attempt[i] !== trend.attempt[i - 1])
                marks.push([trend.t[i], trend.attempt[i] - trend.attempt[i - 1]]);
            if (dt > 0)
                points.push([trend.t[i], Math.max(0, ds / dt)]);
        }
        return {points, marks};
    }

    function used(trend) {
        const points = [], marks = [];
        trend.t.forEach((t, i) => points.push(...(i ? [[t, trend.used[i - 1]]] : []), [t, trend.used[i]]));
        for (let i = 1; i < trend.t.length; i++)
            if (trend.recoveries[i] !== trend.recoveries[i - 1])
                marks.push([trend.t[i], trend.recoveries[i] - trend.recoveries[i - 1]]);
        return {points, marks};
    }

    function draw(where, kind, {points, marks}, most, W, H) {
        const svg = element("svg", {viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", class: kind, role: "img"});
        if (points.length > 1) {
            const from = points[0][0], to = points[points.length - 1][0];
            const x = (t) => ((t - from) / (to - from || 1) * W).toFixed(1);
            const y = (v) => (H - 2 - Math.min(1, v / (most || 1)) * (H - 4)).toFixed(1);
            const curve = points.map(([t, v], i) => (i ? "L" : "M") + x(t) + " " + y(v)).join("");
            if (kind !== "spark") {
                for (const part of [0, 0.5, 1])
                    svg.append(element("line", {class: "grid", x1: 0, x2: W, y1: y(most * part), y2: y(most * part)}));
                svg.append(element("path", {class: "area", d: `${curve}L${W} ${H}L0 ${H}Z`}));
            }
            svg.append(element("path", {class: "curve", d: curve}));
            for (const [t] of marks)
                if (t >= from)
                    svg.append(element("line", {class: "mark", x1: x(t), x2: x(t), y1: 0, y2: H}));
        }
        where.replaceChildren(svg);
        return svg;
    }

    function spark(cell, trend) {
        if (!trend) {
            cell.replaceChildren();
            return;
        }
        const line = rates(trend);
        const svg = draw(cell, "spark", line, Math.max(...line.points.map((p) => p[1])), 110, 22);
        svg.setAttribute("aria-label", "steps a second so far, " + line.marks.length + " recoveries");
    }

    function chart(line, most, unit) {
        const section = $("over-time"), where = section.querySelector(".chart");
        section.hidden = line.points.length < 2;
        if (section.hidden)
            return;
        const n = line.marks.reduce((sum, m) => sum + m[1], 0);
        const top = document.createElement("div"), bottom = document.createElement("div"), box = document.createElement("div");
        draw(box, "line", line, most, 800, 150);
        for (const [row, texts] of [[top, [unit, n + (n === 1 ? " recovery" : " recoveries")]],
            [bottom, [clock(line.points[0][0]), clock(line.points[line.points.length - 1][0])]]]) {
            row.className = "axis";
            for (const text of texts)
                row.appendChild(document.createElement("span")).textContent = text;
        }
        if (n)
            top.lastChild.className = "mark";
        where.replaceChildren(top, box, bottom);
    }

    // --- the two pages

    function map(nodes) {
        const list = $("map");
        list.className = nodes.length > 60 ? "dense" : "roomy";
        while (list.children.length > nodes.length)
            list.lastElementChild.remove();
        nodes.forEach((n, i) => {
            let li = list.children[i];
            const words = n.state + (n.unwell ? ", unwell" : "");
            const kind = n.state + (n.unwell ? " unwell" : "") + " f" + n.tenths;
            const title = `${n.name}: ${words}, ${n.used} of ${n.slots} slots used`;
            if (!li) {
                li = list.appendChild(document.createElement("li"));
                for (const name of ["b", "i", "span"])
                    li.appendChild(document.createElement(name));
            }
            if (li.className !== kind)
                li.className = kind;
            if (li.title === title)
                return;
            li.title = title;
            put(li.children[0], n.name);
            put(li.children[1], words);
            put(li.children[2], n.used + "/" + n.slots);
        });
    }

    const reason = (o, key) => key in o ? [["", put, o[key]]] : [];

    function events(now, list) {
        table("events", list, (e) => [["", put, ago(Math.max(0, now - e.t))], ["", put, e.kind], ["", job, e.job],
            ["m", put, number(e.attempt || null)], ["", put, number(e.rank)], ["", put, e.node], ...reason(e, "detail")]);
    }

    function pool(s) {
        put($("sum-nodes"), s.nodes_up + " of " + s.nodes_all);
        put($("sum-slots"), s.slots_used + " of " + s.slots);
        put($("sum-running"), number(s.running_all));
        put($("sum-waiting"), number(s.waiting_all));
        put($("sum-recoveries"), number(s.recoveries));
        map(s.nodes);
        table("odd", s.nodes.filter((n) => n.odd), (n) => [["", put, n.name],
            ["", state, n.unwell && n.state === "up" ? "unwell" : n.state], ["n", put, n.used + "/" + n.slots],
            ["n", put, ago(n.heard_s)], ...reason(n, "reason")]);
        put($("odd-none"), s.nodes.length ? "All of them are well." : "There are no nodes.");
        table("running", s.running, (j) => [["", job, j.id], ["", put, j.name], ["m", put, j.user], ["", state, j.state],
            ["n m", put, j.joined && j.joined < j.ranks ? j.joined + " of " + j.ranks : String(j.ranks)],
            ["m", put, j.node + (j.nodes > 1 ? " +" + (j.nodes - 1) : "")], ["n", put, number(j.step)],
            ["n", put, rate(j.rate)], ["m", spark, j.trend], ["n", put, number(j.restarts)],
            ["n m", put, ago(j.checkpoint_age_s)], ["n m", put, ago(j.running_s)], ...reason(j, "reason")]);
        more("running-more", s.running_all - s.running.length);
        table("waiting", s.waiting, (j) => [["", put, number(j.place)], ["", job, j.id], ["", put, j.name],
            ["m", put, j.user], ["", state, j.state], ["n", put, number(j.ranks)], ["n", put, ago(j.waits_s)],
            ["n m", put, ago(j.expected_s)], ...reason(j, "reason")]);
        more("waiting-more", s.waiting_all - s.waiting.length);
        events(s.t, s.events);
        table("ended", s.ended, (j) => [["", job, j.id], ["", put, j.name], ["m", put, j.user], ["", state, j.state],
            ["n", put, number(j.exit_code)], ["n", put, ago(j.ended_s)]]);
        if (s.trend)
            chart(used(s.trend), Math.max(s.slots, ...s.trend.used), "of " + s.slots + " slots");
    }

    function one(s) {
        const j = s.job;
        put($("name"), j.name);
        put($("sum-state"), j.state);
        put($("sum-ranks"), j.joined === undefined ? number(j.ranks) : j.joined + " of " + j.ranks);
        put($("sum-step"), number(j.step) || "-");
        put($("sum-rate"), rate(j.rate) || "-");
        put($("sum-restarts"), number(j.restarts));
        put($("sum-checkpoint"), number(j.checkpoint_step) || "-");
        put($("sum-save"), save(j));
        put($("sum-time"), ago(j.running_s));
        if ($("reason"))
            put($("reason"), j.reason || "");
        table("parts", s.parts, (p) => [["", put, p.ranks > 1 ? p.first + "-" + (p.first + p.ranks - 1) : String(p.first)],
            ["", put, p.node], ["m", put, p.node_state], ["", state, p.phase], ["n", put, p.joined + " of " + p.ranks],
            ["n", put, number(p.failed)], ["n", put, number(p.step)]]);
        events(s.t, s.events);
        if (s.trend) {
            const line = rates(s.trend), most = Math.max(0, ...line.points.map((p) => p[1]));
            chart(line, most, "at most " + rate(most) + " steps/s");
        }
    }

    // --- again and again

    function say(kind, text) {
        live.className = kind;
        put(live, text);
    }

    async function update() {
        clearTimeout(timer);
        const mine = ++asked;
        try {
            const stop = new AbortController(), late = setTimeout(() => stop.abort(), PATIENCE);
            // the origin: an address that has a password in it is refused
            const answer = await fetch(new URL(poll, location.origin), {cache: "no-store", signal: stop.signal});
            const text = answer.ok ? await answer.text() : "";
            clearTimeout(late);
            if (answer.status === 401)
                say("off", "a token is needed: load the page again");
            else if (answer.status === 404)
                say("off", "the controller does not know this job any more");
            else if (!answer.ok)
                throw new Error(answer.status);
            else {
                const s = JSON.parse(text);
                (page === "job" ? one : pool)(s);
                known = s.t;
                say("on", "live, " + clock(s.t));
                document.body.dataset.updates = ++updates;
            }
        } catch (e) {
            say("off", known ? "no answer since " + clock(known) : "no answer");
        }
        if (mine === asked && !document.hidden)
            timer = setTimeout(update, EVERY);
    }

    document.addEventListener("visibilitychange", () => {
        if (!document.hidden)
            update();
    });
    update();
})();
