/** Sample traffic: what makes an empty system show what it does. Interactions, comments, and a few viewers. */

const VIDEOS = [
  { video_id: 'northern-lights', owner_id: 'freya' },
  { video_id: 'street-food-tour', owner_id: 'minh' },
  { video_id: 'tiny-robots', owner_id: 'ada' },
  { video_id: 'harbour-at-dawn', owner_id: 'joana' },
  { video_id: 'vinyl-restoration', owner_id: 'otis' },
  { video_id: 'endgame-studies', owner_id: 'vera' },
];
const TYPES = ['view', 'view', 'like', 'watch_time', 'share', 'say', 'say'];
const VIEWERS = ['ines', 'tomas', 'yuki', 'leila', 'sam', 'bruno'];
const WORDS = [
  'First time here, and I stay.',
  'Wait for the part at the end.',
  'Where was this filmed?',
  'Greetings from Porto!',
  'How long did this take?',
  'That light…',
  'Watched it twice already.',
  'Can somebody explain the last move?',
];
const COUNT = 36;
/** Between two of them, in ms: slow enough for the eye to follow what moves. */
const PACE_MS = 90;
/** Viewers who stay a while: a browser has six connections an origin, and the page needs some of them. */
const WATCHING = 3;
const WATCH_MS = 20_000;

/**
 * Sends them one after the other; resolves to how many were acknowledged, and to the error that stopped it, if any. `as`
 * is the user that all of it is sent as, where a token says so; else sample names are used.
 */
export async function sendSample(liverank, { as = null } = {}) {
  const any = (list) => list[Math.floor(Math.random() * list.length)];
  // Each run favours some videos over others, so that pressing again changes the order.
  const liked = VIDEOS.map((video) => ({ video, weight: Math.random() ** 2 }));
  const user = () => as ?? any(VIEWERS);
  while (watching < WATCHING) watch(liverank, weighted(liked).video.video_id, as ?? VIEWERS[watching]);
  for (let sent = 0; sent < COUNT; sent += 1) {
    const { video } = sent < VIDEOS.length ? liked[sent] : weighted(liked);
    const type = sent < VIDEOS.length ? 'view' : any(TYPES);
    try {
      if (type === 'say') await liverank.postComment({ userid: user(), videoid: video.video_id, comment: any(WORDS) });
      else await liverank.interact({ ...video, user_id: user(), type, ...(type === 'watch_time' && { watch_time: Math.ceil(Math.random() * 30) }) });
    } catch (failed) {
      return { sent, failed };
    }
    await new Promise((resolve) => setTimeout(resolve, PACE_MS));
  }
  return { sent: COUNT, failed: null };
}

/** Sample viewers of this page, of all runs. */
let watching = 0;

function watch(liverank, videoid, userid) {
  const stream = liverank.comments(videoid, { userid });
  watching += 1;
  setTimeout(() => {
    stream.close();
    watching -= 1;
  }, WATCH_MS);
}

function weighted(choices) {
  const sum = choices.reduce((total, { weight }) => total + weight, 0);
  let rest = Math.random() * sum;
  return choices.find(({ weight }) => (rest -= weight) <= 0) ?? choices[0];
}
