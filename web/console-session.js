/** Who uses the page, where the system asks viewers for tokens: a token that was pasted, kept for this tab only. */

const KEY = 'liverank.token';
const part = (id) => document.getElementById(id);

export class Session {
  #token = null;
  #onChange;

  /** `onChange()` is called after a sign-in and after a sign-out. */
  constructor({ onChange }) {
    this.#onChange = onChange;
    try {
      this.#token = sessionStorage.getItem(KEY);
    } catch {
      // A browser that keeps nothing asks again after a reload.
    }
    part('sign-in').addEventListener('click', () => this.ask());
    part('sign-out').addEventListener('click', () => this.#take(null));
    part('sign-in-cancel').addEventListener('click', () => part('sign-in-dialog').close());
    part('sign-in-form').addEventListener('submit', (event) => this.#submit(event));
    part('token').addEventListener('input', () => this.#complain(''));
    this.#show();
  }

  get token() {
    return this.#token;
  }

  /** The user that the token is for; null without one. */
  get user() {
    return this.#token === null ? null : (claims(this.#token)?.sub ?? null);
  }

  /** Whether the token names a role that moderates. */
  get moderates() {
    const roles = this.#token === null ? [] : (claims(this.#token)?.roles ?? []);
    const names = typeof roles === 'string' ? roles.split(/\s+/) : roles;
    return names.includes('moderator') || names.includes('service');
  }

  /** Opens the dialog; `why` is said in it. */
  ask(why = '') {
    const dialog = part('sign-in-dialog');
    this.#complain(why);
    if (!dialog.open) dialog.showModal();
    part('token').focus();
  }

  /** Shows the button that leads to the dialog: where nobody asks for tokens there is none. */
  offer() {
    part('sign-in').hidden = this.#token !== null;
  }

  #submit(event) {
    event.preventDefault();
    const token = part('token').value.trim().replace(/^Bearer\s+/i, '');
    const read = claims(token);
    if (typeof read?.sub !== 'string') this.#complain('This is no token: three parts with dots between them, for a user (its “sub”).');
    else if (typeof read.exp === 'number' && read.exp * 1000 < Date.now()) this.#complain('This token has expired.');
    else {
      part('sign-in-dialog').close();
      this.#take(token);
    }
  }

  #take(token) {
    this.#token = token;
    part('token').value = '';
    try {
      if (token === null) sessionStorage.removeItem(KEY);
      else sessionStorage.setItem(KEY, token);
    } catch {
      // It holds until the page is left.
    }
    this.#show();
    this.#onChange();
  }

  #show() {
    part('sign-out').hidden = this.#token === null;
    part('sign-in').hidden = true;
  }

  #complain(text) {
    part('sign-in-problem').textContent = text;
    part('sign-in-problem').hidden = text === '';
  }
}

/** What a token says, unchecked: the server checks it. Null where it is no token. */
function claims(token) {
  try {
    const payload = token.split('.')[1].replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (letter) => letter.codePointAt(0))));
  } catch {
    return null;
  }
}
