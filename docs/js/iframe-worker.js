// A worker of the search in a frame: browsers permit none on a page that is opened from disk.
if (location.protocol === "file:") {
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.append(frame)
      this.inside = frame.contentWindow
      this.inside.document.open()
      this.inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", {data}))
      this.inside.document.write(`<script src="${new URL(url, document.baseURI)}"></script>`)
      this.inside.document.close()
      this.ready = new Promise(done => frame.addEventListener("load", done, {once: true}))
    }
    postMessage(data) {
      this.ready.then(() => this.inside.dispatchEvent(new MessageEvent("message", {data})))
    }
  }
}
