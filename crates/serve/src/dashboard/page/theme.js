// Dark or light: as the system has it, until somebody chooses; the choice is kept in this browser.

import { find, setAttribute, setText } from './dom.js';

const NEXT = { auto: 'dark', dark: 'light', light: 'auto' };

export function buildTheme() {
  const button = find('theme');
  const apply = (theme) => {
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    setText(button, `◐ ${theme}`);
    setAttribute(button, 'aria-label', `Theme: ${theme}`);
  };
  let theme = localStorage.getItem('theme');
  if (!NEXT[theme]) theme = 'auto';
  apply(theme);
  button.addEventListener('click', () => {
    theme = NEXT[theme];
    localStorage.setItem('theme', theme);
    apply(theme);
  });
}
