import { useInteract, useRanking } from '@liverank/react';
import { useEffect, useState } from 'react';
import { Chat } from './Chat';
import { Player } from './Player';
import { Ranking } from './Ranking';
import { SHOWS, type Show } from './shows';
import type { Viewer } from './viewer';

/** The page: the show that is on, its chat, and what else is on, best first. */
export function App({ viewer }: { viewer: Viewer }) {
  const user = viewer.name;
  const [show, setShow] = useState<Show>(SHOWS[0]!);
  const ranking = useRanking({ limit: 50 });
  const { interact, error } = useInteract();
  const place = ranking.videos.findIndex((video) => video.video_id === show.id);

  // Opening a show is a view.
  useEffect(() => {
    void interact({ video_id: show.id, owner_id: show.owner, user_id: user, type: 'view' });
  }, [interact, show, user]);

  const send = (type: 'like' | 'share') => void interact({ video_id: show.id, owner_id: show.owner, user_id: user, type });

  return (
    <div className="page">
      <header className="bar">
        <strong>Live&nbsp;show</strong>
        <span className="who">
          You are {user}
          {viewer.moderates && ', a moderator'}
        </span>
        <span className={`pill ${ranking.state}`} role="status">
          {ranking.state === 'live' ? 'Live' : ranking.error ? ranking.error.message : 'Connecting'}
        </span>
        {(ranking.state === 'waiting' || ranking.state === 'failed') && <button onClick={ranking.retry}>Try again</button>}
      </header>
      <main>
        <section className="stage">
          <Player show={show} />
          <div className="under">
            <div>
              <h1>{show.title}</h1>
              <p className="muted">
                by {show.owner}
                {place >= 0 && ` · number ${place + 1} now`}
              </p>
            </div>
            <div className="buttons">
              <button onClick={() => send('like')}>♥ Like</button>
              <button onClick={() => send('share')}>↗ Share</button>
            </div>
          </div>
          {error && <p className="problem">{error.message}</p>}
          <Ranking list={ranking} current={show.id} onOpen={setShow} />
        </section>
        <Chat show={show} viewer={viewer} />
      </main>
    </div>
  );
}
