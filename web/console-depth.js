/** How deep the ranking goes: a phone begins with few videos, and up to 10,000 can be asked for. */

/** Videos that the list has at first. */
const FIRST = 50;
/** Videos that it has when more are asked for: 600 KB once, and then what changes. */
const MOST = 10_000;
/** Those of an owner: this list comes whole with each change. */
const MOST_OF_OWNER = 1_000;
/** On a phone, where the other rooms stand below it, the list begins short. */
const SHORT = 10;

const button = document.getElementById('show-all');

export class RankingDepth {
  #ranking;
  #narrow;
  #isShort = true;
  #count = 0;
  #deeper = true;

  /** How many videos are asked for. */
  limit = FIRST;

  /** How many of an owner's are asked for. */
  get limitOfOwner() {
    return Math.min(this.limit, MOST_OF_OWNER);
  }

  /** `narrow` is the query for screens where the list begins short; `onDeeper` is told that another `limit` holds. */
  constructor(ranking, { narrow, onDeeper }) {
    this.#ranking = ranking;
    this.#narrow = narrow;
    narrow.addEventListener('change', () => this.#show());
    button.addEventListener('click', () => {
      const at = this.#hides ? SHORT : FIRST - 1;
      if (this.#hides) this.#isShort = false;
      else {
        this.limit = MOST;
        // Below it there are the other rooms: it scrolls by itself.
        button.closest('.scroll').classList.add('deep');
        onDeeper();
      }
      this.#show();
      ranking.focusAt(at);
    });
  }

  /** There is a list of `count` videos; `deeper` says whether more of it can be asked for. */
  offer(count, deeper) {
    this.#count = count;
    this.#deeper = deeper;
    this.#show();
  }

  get #hides() {
    return this.#narrow.matches && this.#isShort && this.limit === FIRST;
  }

  #show() {
    this.#ranking.limit(this.#hides ? SHORT : Infinity);
    const more = this.#deeper && this.limit === FIRST && this.#count >= FIRST;
    button.hidden = this.#hides ? this.#count <= SHORT : !more;
    button.textContent = this.#hides ? `Show the top ${FIRST}` : `Show up to ${MOST.toLocaleString('en')}`;
  }
}
