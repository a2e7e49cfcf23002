import { ask, open, settingsSize, test, expect } from './app';
import type { Page } from '@playwright/test';

const folder = 'test-results/gallery';
const small = { width: 480, height: 560 };
const mocks: Record<string, string> = { network: 'lan', live: 'long' };

async function shoot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: `${folder}/${name}.png` });
}

async function openConversation(page: Page): Promise<void> {
  await page.getByRole('button', { name: 'Conversations' }).click();
  await page
    .getByRole('button', { name: /Why half of the experts/ })
    .first()
    .click();
  await expect(page.getByText('Why half can be enough')).toBeVisible();
}

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(colorScheme, () => {
    test.use({ colorScheme });

    test('chat', async ({ page }) => {
      await open(page, 'chat');
      await expect(page.getByText('Ask anything')).toBeVisible();
      await shoot(page, `${colorScheme}-chat-empty`);
      await openConversation(page);
      await shoot(page, `${colorScheme}-chat-answer`);
      await page.getByRole('button', { name: 'Show decisions' }).click();
      await page.locator('.token.fallback').nth(4).hover();
      await shoot(page, `${colorScheme}-chat-tinted`);
      await page.getByRole('button', { name: 'Options for this conversation' }).click();
      await shoot(page, `${colorScheme}-chat-options`);
      await page.getByRole('button', { name: 'Conversations' }).click();
      await page.getByText('A letter to the landlord').hover();
      await shoot(page, `${colorScheme}-chat-list`);
    });

    test('chat while streaming', async ({ page }) => {
      await open(page, 'chat', { tick: 4 });
      await ask(page, 'Why can half of the experts be enough?');
      await expect(page.getByRole('cell').nth(5)).toBeVisible();
      await shoot(page, `${colorScheme}-chat-streaming`);
      await page.setViewportSize({ width: 900, height: 700 });
      await shoot(page, `${colorScheme}-chat-wide`);
    });

    for (const name of ['models', 'policy', 'memory', 'network', 'general', 'live']) {
      test(`settings ${name}`, async ({ page }) => {
        await page.setViewportSize(settingsSize);
        await open(page, `settings/${name}`, { mock: mocks[name] ?? 'streaming' });
        await page.waitForTimeout(name === 'live' ? 1500 : 300);
        await shoot(page, `${colorScheme}-settings-${name}`);
        await page.setViewportSize({ ...settingsSize, height: 1240 });
        await page.waitForTimeout(200);
        await shoot(page, `${colorScheme}-settings-${name}-all`);
        if (colorScheme === 'dark') return;
        await page.setViewportSize(small);
        await page.waitForTimeout(200);
        await shoot(page, `small-settings-${name}`);
      });
    }
  });
}

for (const mock of ['nomodel', 'loading', 'offline']) {
  test(`chat, ${mock}`, async ({ page }) => {
    await open(page, 'chat', { mock });
    await page.waitForTimeout(500);
    await shoot(page, `state-chat-${mock}`);
  });
}

for (const colorScheme of ['light', 'dark'] as const) {
  test.describe(`crowded, ${colorScheme}`, () => {
    test.use({ colorScheme });

    test('chat', async ({ page }) => {
      await open(page, 'chat', { mock: 'crowded' });
      await page.getByRole('button', { name: 'Conversations' }).click();
      await expect(page.getByRole('listitem').nth(200)).toBeAttached();
      await shoot(page, `crowded-${colorScheme}-list`);
      await page.getByRole('button', { name: /^سؤال عن الخبراء/ }).click();
      await expect(page.getByText('الثقة')).toBeVisible();
      await shoot(page, `crowded-${colorScheme}-chat-end`);
      await page.getByRole('region', { name: 'Chat' }).press('Home');
      await page.waitForTimeout(200);
      await shoot(page, `crowded-${colorScheme}-chat`);
      await page.setViewportSize({ width: 900, height: 1000 });
      await page.waitForTimeout(200);
      await shoot(page, `crowded-${colorScheme}-chat-wide`);
    });

    test('network', async ({ page }) => {
      await page.setViewportSize({ ...settingsSize, height: 2000 });
      await open(page, 'settings/network', { mock: 'crowded' });
      await page.waitForTimeout(300);
      await shoot(page, `crowded-${colorScheme}-network`);
      await page.setViewportSize({ ...small, height: 2000 });
      await shoot(page, `crowded-${colorScheme}-network-small`);
    });
  });
}

test('a full disk', async ({ page }) => {
  await open(page, 'chat', { mock: 'fulldisk', tick: 1 });
  await ask(page, 'Why can half of the experts be enough?');
  await expect(page.getByText('could not be saved')).toBeVisible();
  await page.waitForTimeout(300);
  await shoot(page, 'state-chat-fulldisk');
  await page.setViewportSize(settingsSize);
  await open(page, 'settings/general', { mock: 'fulldisk' });
  await page.getByLabel('Appearance').selectOption('dark');
  await page.waitForTimeout(200);
  await shoot(page, 'state-general-fulldisk');
  await open(page, 'settings/models', { mock: 'fulldisk' });
  await page.getByRole('button', { name: 'Get Qwen1.5-MoE A2.7B Chat' }).click();
  await expect(page.getByText('The download stopped')).toBeVisible();
  await shoot(page, 'state-models-fulldisk');
});

test('chat, an answer that fails', async ({ page }) => {
  await open(page, 'chat', { mock: 'error', tick: 1 });
  await ask(page, 'Why can half of the experts be enough?');
  await expect(page.getByText('The answer stopped')).toBeVisible();
  await shoot(page, 'state-chat-error');
});

test('settings with nothing measured', async ({ page }) => {
  await page.setViewportSize(settingsSize);
  for (const name of ['models', 'policy', 'memory', 'live']) {
    await open(page, `settings/${name}`, { mock: 'empty' });
    await page.waitForTimeout(500);
    await shoot(page, `state-${name}-empty`);
  }
});

test('settings of a build that cannot', async ({ page }) => {
  await page.setViewportSize(settingsSize);
  for (const name of ['policy', 'memory', 'general', 'live']) {
    await open(page, `settings/${name}`, { mock: 'unavailable' });
    await page.waitForTimeout(500);
    await shoot(page, `state-${name}-unavailable`);
  }
});

test('downloads, running and failed', async ({ page }) => {
  await page.setViewportSize(settingsSize);
  await open(page, 'settings/models', { mock: 'downloadfail' });
  await page.getByRole('button', { name: 'Get Qwen1.5-MoE A2.7B Chat' }).click();
  await page.waitForTimeout(900);
  await shoot(page, 'state-models-downloading');
  await expect(page.getByText('The download stopped')).toBeVisible();
  await shoot(page, 'state-models-downloadfail');
});
