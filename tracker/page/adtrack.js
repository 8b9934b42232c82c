// See docs/PAGE_SCRIPT.md.
((d, n) => {
const {origin} = new URL(d.currentScript.src);
const credentials = n.globalPrivacyControl || n.doNotTrack == 1 ? 'omit' : 'include';
const timers = new Map();

const send = event => fetch(origin + '/events', {
	method: 'POST', body: JSON.stringify([event]), keepalive: true, credentials
}).then(done => done.json()).then(done => done.results[0]).catch(() => ({}));

const once = (eventType, programId, impressionId) => send({
	eventType, programId, impressionId,
	eventId: crypto.getRandomValues(new Uint32Array(4)).join()
});

const seen = async target => {
	timers.delete(target);
	view.unobserve(target);
	const {messageId} = await once('impression', target.dataset.impression);
	if (!messageId) return;
	target.dataset.impressionId = messageId;
	for (const link of [target, ...target.querySelectorAll('a')])
		if (link.href?.startsWith(origin + '/click/'))
			link.search += (link.search && '&') + 'impression_id=' + messageId;
};

const view = new IntersectionObserver(entries => entries.forEach(({target, intersectionRatio: ratio}) => {
	clearTimeout(timers.get(target));
	if (ratio >= .5 && !d.hidden)
		timers.set(target, setTimeout(seen, 1e3, target));
}), {threshold: .5});

const watch = target => {
	clearTimeout(timers.get(target));
	timers.set(target);
	view.unobserve(target);
	view.observe(target);
};

const scan = () => d.querySelectorAll('[data-impression]:not([data-watched])').forEach(target => {
	target.dataset.watched = 1;
	watch(target);
});

d.addEventListener('visibilitychange', () => [...timers.keys()].forEach(watch));

d.addEventListener('click', ({target}) => {
	const {click, impressionId} = target.closest('[data-click]')?.dataset || {};
	if (click) once('click', click, impressionId);
}, true);

window.adtrack = {
	scan,
	conversion: (programId, more) => send({
		eventType: 'conversion', programId,
		clickId: new URL(location).searchParams.getAll('click_id')
			.filter(id => /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i.test(id)).pop(),
		...more
	})
};
scan();
d.addEventListener('DOMContentLoaded', scan);
})(document, navigator)
