/** Who looks at the page. */
export interface Viewer {
  name: string;
  /** Whether a token says so: without one nobody may remove anything. */
  signedIn: boolean;
  /** Whether the token has a role that moderates. The server checks it: this decides which buttons there are. */
  moderates: boolean;
}

/** The user that the token is for; without one, whoever the address says, or a guest. */
export function viewerOf(token: string | null, name: string | null): Viewer {
  const { sub, roles } = token ? claims(token) : {};
  const given = typeof roles === 'string' ? roles.split(/\s+/) : (roles ?? []);
  const guest = `guest-${Math.random().toString(36).slice(2, 6)}`;
  return { name: sub ?? name ?? guest, signedIn: sub !== undefined, moderates: given.some((role) => role === 'moderator' || role === 'service') };
}

/** What a token says, unchecked; nothing where it cannot be read. */
function claims(token: string): { sub?: string; roles?: string | string[] } {
  try {
    const payload = token.split('.')[1]!.replaceAll('-', '+').replaceAll('_', '/');
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(atob(payload), (letter) => letter.codePointAt(0)!)));
  } catch {
    return {};
  }
}
