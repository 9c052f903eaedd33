import { type ComponentType, cloneElement, type PointerEvent, type ReactElement, useState } from "react";

export interface Triggered {
  trigger: ReactElement<Record<string, unknown>>;
}

export interface Opening {
  startOpen: boolean;
}

/** What is late may push the page down under a pressed pointer: the click goes to the element that was pressed. */
export function hold(event: PointerEvent): void {
  event.currentTarget.setPointerCapture(event.pointerId);
}

/**
 * Menus and popovers are only worth their code once somebody reaches for them: until the first click the trigger is
 * a plain button; pointing at it or focusing it fetches the layer, so the click finds it there.
 */
export function lazyLayer<P extends Triggered>(
  kind: "menu" | "dialog",
  load: () => Promise<ComponentType<P & Opening>>,
) {
  let Loaded: ComponentType<P & Opening> | null = null;
  const fetch = async () => {
    Loaded ??= await load();
  };
  return function Layer(props: P) {
    const [asked, setAsked] = useState(false);
    if (asked && Loaded) return <Loaded {...props} startOpen />;
    const warm = () => void fetch();
    const open = () => void fetch().then(() => setAsked(true));
    return cloneElement(props.trigger, {
      "aria-haspopup": kind,
      "aria-expanded": false,
      onPointerEnter: warm,
      onPointerDown: hold,
      onFocus: warm,
      onClick: open,
    });
  };
}
