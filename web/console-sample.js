/** Sample traffic: what makes an empty system show what it does. */

const VIDEOS = [
  { video_id: 'northern-lights', owner_id: 'freya' },
  { video_id: 'street-food-tour', owner_id: 'minh' },
  { video_id: 'tiny-robots', owner_id: 'ada' },
  { video_id: 'harbour-at-dawn', owner_id: 'joana' },
  { video_id: 'vinyl-restoration', owner_id: 'otis' },
  { video_id: 'endgame-studies', owner_id: 'vera' },
];
const TYPES = ['view', 'view', 'like', 'watch_time', 'share'];
const VIEWERS = ['ines', 'tomas', 'yuki', 'leila', 'sam', 'bruno'];
const COUNT = 30;
/** Between two of them, in ms: slow enough for the eye to follow what moves. */
const PACE_MS = 90;

/** Sends them one after the other; resolves to how many were acknowledged, and to the error that stopped it, if any. */
export async function sendSample(liverank) {
  const any = (list) => list[Math.floor(Math.random() * list.length)];
  // Each run favours some videos over others, so that pressing again changes the order.
  const liked = VIDEOS.map((video) => ({ video, weight: Math.random() ** 2 }));
  for (let sent = 0; sent < COUNT; sent += 1) {
    const { video } = sent < VIDEOS.length ? liked[sent] : weighted(liked);
    const type = any(TYPES);
    const event = { ...video, user_id: any(VIEWERS), type };
    if (type === 'watch_time') event.watch_time = Math.ceil(Math.random() * 30);
    try {
      await liverank.interact(event);
    } catch (failed) {
      return { sent, failed };
    }
    await new Promise((resolve) => setTimeout(resolve, PACE_MS));
  }
  return { sent: COUNT, failed: null };
}

function weighted(choices) {
  const sum = choices.reduce((total, { weight }) => total + weight, 0);
  let rest = Math.random() * sum;
  return choices.find(({ weight }) => (rest -= weight) <= 0) ?? choices[0];
}
