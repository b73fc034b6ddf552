import { Liverank } from '@liverank/client';
import { LiverankProvider } from '@liverank/react';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import './show.css';
import { viewerOf } from './viewer';

/** Where liverank is, and, where it asks viewers for tokens, one: your own server would hand it out. */
const settings = new URLSearchParams(location.search);
const token = settings.get('token');
const client = new Liverank({
  baseUrl: settings.get('liverank') ?? import.meta.env.VITE_LIVERANK_URL ?? 'http://localhost:8080',
  token: () => token,
});
const viewer = viewerOf(token, settings.get('user'));

createRoot(document.getElementById('root')!).render(
  <StrictMode>
    <LiverankProvider client={client}>
      <App viewer={viewer} />
    </LiverankProvider>
  </StrictMode>,
);
