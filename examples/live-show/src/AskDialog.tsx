import { useEffect, useRef, type FormEvent } from 'react';

/** What is asked before something is done: one choice, and a few words. */
export interface Question {
  title: string;
  /** What the choice is called, and what there is: values and words. */
  choice: string;
  options: readonly (readonly [string, string])[];
  /** What the few words are called. */
  words: string;
  /** What the button says. */
  go: string;
}

interface AskDialogProps {
  question: Question;
  onAnswer: (answer: { choice: string; words: string }) => void;
  onClose: () => void;
}

/** Asks, in a dialog that is open as long as it is mounted. */
export function AskDialog({ question, onAnswer, onClose }: AskDialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (!dialog.current?.open) dialog.current?.showModal();
  }, []);
  const submit = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    onAnswer({ choice: String(form.get('choice')), words: String(form.get('words')).trim() });
  };
  return (
    <dialog ref={dialog} onClose={onClose} aria-labelledby="question">
      <form onSubmit={submit}>
        <h2 id="question">{question.title}</h2>
        <label>
          {question.choice}
          <select name="choice">
            {question.options.map(([value, word]) => (
              <option key={value} value={value}>
                {word}
              </option>
            ))}
          </select>
        </label>
        <label>
          {question.words}
          <input name="words" maxLength={200} autoComplete="off" />
        </label>
        <div className="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button>{question.go}</button>
        </div>
      </form>
    </dialog>
  );
}
