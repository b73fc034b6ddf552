import { Liverank } from '@liverank/client';
import { LiverankProvider } from '@liverank/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import './show.css';

/** Where liverank is, and, where it asks viewers for tokens, one: your own server would hand it out. */
const settings = new URLSearchParams(location.search);
const client = new Liverank({
  baseUrl: settings.get('liverank') ?? import.meta.env.VITE_LIVERANK_URL ?? 'http://localhost:8080',
  token: () => settings.get('token'),
});

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <LiverankProvider client={client}>
      <App user={settings.get('user') ?? `guest-${Math.random().toString(36).slice(2, 6)}`} />
    </LiverankProvider>
  </StrictMode>,
);
