(function () {
  "use strict";
  const root = document.documentElement;
  const errors = [];
  window.undertowError = function (message) {
    errors.push(String(message));
    root.dataset.errors = JSON.stringify(errors);
  };
  window.addEventListener("error", (event) => window.undertowError(event.message));
  window.addEventListener("unhandledrejection", (event) => window.undertowError(event.reason));
  document.addEventListener("securitypolicyviolation", (event) =>
    window.undertowError(event.violatedDirective + " " + event.blockedURI));
})();
