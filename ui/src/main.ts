import { backend } from '#backend';
import { mount } from 'svelte';
import { mendLanguage } from './lib/ui/language';
import Root from './Root.svelte';
import './styles/tokens.css';
import './styles/base.css';
import './styles/controls.css';
import './styles/markdown.css';

mendLanguage(navigator);
const target = document.getElementById('app');
if (target) mount(Root, { target, props: { backend } });
