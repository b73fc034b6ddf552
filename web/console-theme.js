/**
 * Light or dark colours: as somebody chose, else as the system has them. Unlike the page's other scripts it runs before anything is
 * drawn, so that no light page flashes at night. Whoever draws by itself listens to `colours` on the window.
 */
(() => {
  const KEY = 'liverank.colours';
  const systemIsDark = matchMedia('(prefers-color-scheme: dark)');
  const root = document.documentElement;
  let chosen = '';

  const remembered = () => {
    try {
      return localStorage.getItem(KEY) ?? '';
    } catch {
      // A browser that keeps nothing forgets the choice with the page.
      return chosen;
    }
  };

  const apply = () => {
    const wanted = remembered();
    chosen = ['light', 'dark'].includes(wanted) ? wanted : '';
    root.dataset.theme = chosen || (systemIsDark.matches ? 'dark' : 'light');
    const select = document.getElementById('colours');
    if (select) select.value = chosen;
    dispatchEvent(new Event('colours'));
  };

  const choose = (name) => {
    chosen = name;
    try {
      if (name === '') localStorage.removeItem(KEY);
      else localStorage.setItem(KEY, name);
    } catch {
      root.dataset.theme = name || (systemIsDark.matches ? 'dark' : 'light');
    }
    apply();
  };

  systemIsDark.addEventListener('change', apply);
  addEventListener('storage', apply);
  addEventListener('DOMContentLoaded', () => {
    document.getElementById('colours')?.addEventListener('change', (event) => choose(event.target.value));
    apply();
  });
  apply();
})();
