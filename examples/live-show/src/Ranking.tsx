import type { RankedList } from '@liverank/react';
import { SHOWS, showOf, type Show } from './shows';

const points = new Intl.NumberFormat('en');

/** What is on, best first: all shows, those without points last. */
export function Ranking({ list, current, onOpen }: { list: RankedList; current: string; onOpen: (show: Show) => void }) {
  const ranked = list.videos.flatMap((video) => {
    const show = showOf(video.video_id);
    return show ? [{ show, score: video.score }] : [];
  });
  const others = SHOWS.filter((show) => !ranked.some((line) => line.show.id === show.id)).map((show) => ({ show, score: 0 }));
  return (
    <section aria-labelledby="ranking">
      <h2 id="ranking">On now</h2>
      <ol className="ranking">
        {[...ranked, ...others].map(({ show, score }, index) => (
          <li key={show.id}>
            <button aria-current={show.id === current} onClick={() => onOpen(show)}>
              <span className="rank">{index + 1}</span>
              <span className="thumb" style={{ background: `hsl(${show.hue} 60% 35%)` }} />
              <span className="name">{show.title}</span>
              <span className="score">{points.format(score)}</span>
            </button>
          </li>
        ))}
      </ol>
    </section>
  );
}
