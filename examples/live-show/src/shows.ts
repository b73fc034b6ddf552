/** What is on. A real site would have them from its own catalogue: liverank knows ids, owners and what viewers do. */

export interface Show {
  id: string;
  title: string;
  owner: string;
  hue: number;
}

export const SHOWS: readonly Show[] = [
  { id: 'northern-lights', title: 'Northern lights over Tromsø', owner: 'freya', hue: 160 },
  { id: 'street-food-tour', title: 'Street food after midnight', owner: 'minh', hue: 24 },
  { id: 'tiny-robots', title: 'Tiny robots race each other', owner: 'ada', hue: 214 },
  { id: 'harbour-at-dawn', title: 'The harbour at dawn', owner: 'joana', hue: 196 },
  { id: 'vinyl-restoration', title: 'Bringing records back to life', owner: 'otis', hue: 286 },
  { id: 'endgame-studies', title: 'Endgames, move by move', owner: 'vera', hue: 48 },
];

/** The show with this id; a ranking may hold videos of others. */
export function showOf(id: string): Show | undefined {
  return SHOWS.find((show) => show.id === id);
}
