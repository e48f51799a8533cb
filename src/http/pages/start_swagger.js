"use strict";

// Swagger UI has dark colours, and leaves it to the page when to use them.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

window.addEventListener("DOMContentLoaded", () => {
  window.SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    // Other pages link to one call, as /docs#/nonces/claim.
    deepLinking: true,
    // Sends the document to nobody.
    validatorUrl: null,
  });
});
