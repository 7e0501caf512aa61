// Keeps the numbers beside the policy's lines while it is written; without script the page does the same at each check.
(function () {
  "use strict";

  function follow(editor) {
    const text = editor.querySelector("textarea");
    const gutter = editor.querySelector(".gh-gutter");
    const beside = editor.querySelector(".gh-beside");
    const before = text.value;

    function number() {
      const count = text.value.split("\n").length;
      text.rows = count;
      while (gutter.children.length > count) gutter.lastElementChild.remove();
      while (gutter.children.length < count) {
        const line = document.createElement("li");
        line.id = "line-" + (gutter.children.length + 1);
        line.textContent = String(gutter.children.length + 1);
        gutter.append(line);
      }
      // what was said belongs to lines that may have moved: it is shown as of before
      beside.classList.toggle("stale", text.value !== before);
      gutter.classList.toggle("stale", text.value !== before);
    }

    text.addEventListener("input", number);
    number();
  }

  document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-editor]").forEach(follow));
})();
