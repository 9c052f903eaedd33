/** A root and its three children: what the product does. */
export function Logo({ size = 26 }: { size?: number }) {
  return (
    <svg width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" className="shrink-0">
      <rect width="32" height="32" rx="8" fill="oklch(52% 0.17 268)" />
      <path
        d="M16 9.5v4.2M16 13.7 8.6 20M16 13.7 23.4 20M16 13.7V20"
        fill="none"
        stroke="white"
        strokeWidth="2.2"
        strokeLinecap="round"
      />
      <g fill="white">
        <circle cx="16" cy="8" r="3" />
        <circle cx="8" cy="22.5" r="3" />
        <circle cx="16" cy="22.5" r="3" />
        <circle cx="24" cy="22.5" r="3" />
      </g>
    </svg>
  );
}
