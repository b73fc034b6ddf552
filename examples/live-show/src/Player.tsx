import type { Show } from './shows';

/** Stands for the player: put your own here. */
export function Player({ show }: { show: Show }) {
  return (
    <div className="player" style={{ background: `linear-gradient(135deg, hsl(${show.hue} 70% 28%), hsl(${show.hue + 60} 60% 12%))` }}>
      <span className="on-air">ON AIR</span>
      <svg viewBox="0 0 64 64" aria-hidden="true">
        <circle cx="32" cy="32" r="30" />
        <path d="M26 20v24l20-12z" />
      </svg>
      <p>{show.title}</p>
    </div>
  );
}
