// Forms: the CSRF token of fragments that many users share, and a question before something that cannot be undone.
export function csrf() {
  return document.documentElement.dataset.csrf;
}

export function fillTokens(root) {
  for (const field of root.querySelectorAll('input[name="csrf"]')) field.value = csrf();
}

// <form data-confirm="Cancel this batch?"> asks first. A form is sent once, however often its button is clicked.
export function confirmForms() {
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent || (form.dataset.confirm && !confirm(form.dataset.confirm))) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
  });
  // With the browser's Back button, the form can be sent again.
  addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
  });
}
