/* Flywheel in the browser: what people do with an answer, as feedback. One file, no build, no dependency.
 *
 *   <script src="flywheel.js"></script>
 *   const flywheel = new Flywheel({ endpoint: "/feedback" });
 *   flywheel.watch(element, answer.flywheel);       // the element that shows the answer, and the answer's ticket
 *   flywheel.prompted();                            // the person sends the next message
 *
 * In a watched element: a button with data-flywheel-thumbs="1" or "-1" is a thumb; text copied out of it, links and
 * elements with data-flywheel-click that are clicked, and the time it is in view are noticed; an element with
 * data-flywheel-edit (contenteditable, or a text field) that is changed is a correction.
 *
 * The endpoint is the product's own: a browser must not hold the gateway's key. The product checks who is there and
 * passes the body on to POST /v1/feedback. Nothing is kept in the browser and nothing goes anywhere else.
 */
(function (root) {
  "use strict";

  const DEFAULTS = {
    endpoint: "/feedback",
    allowed: () => true, // asked before anything is noted: return false without the person's consent
    minDwellMs: 1000, // shorter looks say nothing
    repromptMs: 300000, // a later message is a new matter
    maxQueue: 200, // past it the oldest is dropped and counted
    maxTries: 8,
    fetch: (...args) => root.fetch(...args),
  };
  const RETRY = new Set([408, 425, 429, 500, 502, 503, 504]);
  const MAX_WAIT_MS = 30000;

  class Flywheel {
    constructor(options) {
      this.options = { ...DEFAULTS, ...options };
      this.dropped = 0;
      this._answers = new Map(); // element -> what is known of its answer
      this._queue = [];
      this._sending = false;
      this._tries = 0;
      this._last = null;
      this._observer = new root.IntersectionObserver((seen) => this._moved(seen), { threshold: [0, 0.5, 1] });
      this._listeners = [
        [root.document, "visibilitychange", () => this._visible()],
        [root, "pagehide", () => this._leave()],
      ];
      for (const [target, name, handler] of this._listeners) target.addEventListener(name, handler);
    }

    /* Notice what happens to an answer. `ticket` is the `flywheel` object of the completion or of its first chunk. */
    watch(element, ticket) {
      if (!ticket || !ticket.inference_id || !ticket.feedback_token)
        throw new Error("flywheel.watch needs the answer's `flywheel` object: inference_id and feedback_token");
      this.unwatch(element);
      const answer = { element, ticket, inView: false, since: null, shown: 0, at: now(), edited: new Map(), handlers: [] };
      const on = (name, handler) => {
        element.addEventListener(name, handler);
        answer.handlers.push([name, handler]);
      };
      on("click", (event) => this._clicked(answer, event));
      on("copy", () => this._copied(answer));
      on("focusin", (event) => this._editing(answer, event));
      on("focusout", (event) => this._edited(answer, event));
      this._answers.set(element, answer);
      this._last = answer;
      this._observer.observe(element);
      return this;
    }

    /* Forget an element that leaves the page; how long it was looked at is sent. */
    unwatch(element) {
      const answer = this._answers.get(element);
      if (!answer) return;
      this._observer.unobserve(element);
      for (const [name, handler] of answer.handlers) element.removeEventListener(name, handler);
      this._pause(answer);
      this._dwelt(answer);
      this._answers.delete(element);
      if (this._last === answer) this._last = null;
    }

    /* The person asks again: soon after an answer, that says something about it. */
    prompted() {
      for (const answer of this._answers.values()) {
        this._pause(answer);
        this._dwelt(answer);
        this._resume(answer);
      }
      const last = this._last;
      this._last = null;
      if (last && now() - last.at <= this.options.repromptMs) this.send(last.ticket, "reprompt");
    }

    /* Any reaction by hand: send(ticket, "rating", { value: 4 }), send(ticket, "comment", { text: "…" }). */
    send(ticket, kind, fields) {
      if (!this.options.allowed()) return;
      const { inference_id, feedback_token } = ticket;
      this._queue.push({ inference_id, feedback_token, kind, idempotency_key: uuid(), ...fields });
      while (this._queue.length > this.options.maxQueue) {
        this._queue.splice(this._sending ? 1 : 0, 1);
        this.dropped += 1;
      }
      this._flush();
    }

    /* Stop noticing; what is noted is still sent. */
    stop() {
      for (const element of [...this._answers.keys()]) this.unwatch(element);
      this._observer.disconnect();
      for (const [target, name, handler] of this._listeners) target.removeEventListener(name, handler);
    }

    _clicked(answer, event) {
      const thumb = event.target.closest("[data-flywheel-thumbs]");
      if (thumb && answer.element.contains(thumb)) {
        const value = Number(thumb.dataset.flywheelThumbs);
        for (const other of answer.element.querySelectorAll("[data-flywheel-thumbs]"))
          other.setAttribute("aria-pressed", String(other === thumb));
        this.send(answer.ticket, "thumbs", { value });
        return;
      }
      const link = event.target.closest("a[href], [data-flywheel-click]");
      if (!link || !answer.element.contains(link)) return;
      const all = [...answer.element.querySelectorAll("a[href], [data-flywheel-click]")];
      this.send(answer.ticket, "click", { value: all.indexOf(link) });
    }

    _copied(answer) {
      const length = String(root.document.getSelection() || "").length;
      if (length) this.send(answer.ticket, "copy", { value: length });
    }

    _editing(answer, event) {
      const place = event.target.closest("[data-flywheel-edit]");
      if (place && !answer.edited.has(place)) answer.edited.set(place, textOf(place));
    }

    _edited(answer, event) {
      const place = event.target.closest("[data-flywheel-edit]");
      if (!place || !answer.edited.has(place)) return;
      const text = textOf(place);
      if (text === answer.edited.get(place) || !text.trim()) return;
      answer.edited.set(place, text);
      this.send(answer.ticket, "correction", { text });
    }

    _moved(seen) {
      for (const entry of seen) {
        const answer = this._answers.get(entry.target);
        if (!answer) continue;
        // half of it is in view, or it fills half of the window
        const tall = entry.rootBounds && entry.intersectionRect.height >= entry.rootBounds.height / 2;
        answer.inView = entry.isIntersecting && (entry.intersectionRatio >= 0.5 || Boolean(tall));
        if (answer.inView) this._resume(answer);
        else this._pause(answer);
      }
    }

    _visible() {
      for (const answer of this._answers.values()) {
        if (root.document.visibilityState === "visible") this._resume(answer);
        else this._pause(answer);
      }
    }

    _resume(answer) {
      if (answer.inView && answer.since === null && root.document.visibilityState === "visible") answer.since = now();
    }

    _pause(answer) {
      if (answer.since === null) return;
      answer.shown += now() - answer.since;
      answer.since = null;
    }

    _dwelt(answer) {
      const value = Math.round(answer.shown);
      answer.shown = 0;
      if (value >= this.options.minDwellMs) this.send(answer.ticket, "dwell", { value: Math.min(value, 86400000) });
    }

    /* The page may be gone in a moment: what is left goes as beacons, which outlive it. */
    _leave() {
      for (const answer of this._answers.values()) {
        this._pause(answer);
        this._dwelt(answer);
      }
      // One that is on its way goes again: its idempotency key makes both the same row.
      for (const body of this._queue.splice(0)) {
        const blob = new Blob([JSON.stringify(body)], { type: "application/json" });
        if (!root.navigator.sendBeacon(this.options.endpoint, blob)) this.dropped += 1;
      }
    }

    async _flush() {
      if (this._sending) return;
      this._sending = true;
      while (this._queue.length) {
        const body = this._queue[0];
        const wait = await this._post(body);
        if (wait === null || ++this._tries >= this.options.maxTries) {
          if (wait !== null) this.dropped += 1;
          this._tries = 0;
          if (this._queue[0] === body) this._queue.shift();
        } else await new Promise((resolve) => setTimeout(resolve, wait));
      }
      this._sending = false;
    }

    /* Milliseconds until the next try; null: it is done with, taken or refused. */
    async _post(body) {
      try {
        const answer = await this.options.fetch(this.options.endpoint, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
          keepalive: true,
          credentials: "same-origin",
        });
        if (answer.ok) return null;
        if (!RETRY.has(answer.status)) {
          this.dropped += 1;
          console.warn(`flywheel: ${body.kind} was refused with ${answer.status}: ${await answer.text()}`);
          return null;
        }
        const asked = Number(answer.headers.get("retry-after")) * 1000;
        return asked > 0 ? Math.min(asked, MAX_WAIT_MS) : this._backOff();
      } catch (error) {
        return this._backOff();
      }
    }

    _backOff() {
      return Math.min(MAX_WAIT_MS, 500 * 2 ** this._tries) * (0.5 + Math.random() / 2);
    }
  }

  function now() {
    return root.performance.now();
  }

  function textOf(place) {
    return "value" in place ? place.value : place.innerText;
  }

  function uuid() {
    if (root.crypto.randomUUID) return root.crypto.randomUUID();
    const bytes = root.crypto.getRandomValues(new Uint8Array(16)); // randomUUID exists on secure origins only
    return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  root.Flywheel = Flywheel;
})(globalThis);
